"""Faults around a run: a recipe that changed, storage that went away."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from cluster.changes import change_tags, check_allowed, read_changes, record_change
from cluster.recipe import load_recipe
from cluster.reporting import build_report
from cluster.storage import storage_of
from cluster.workflow import JOB, RESULT, Finished, make_job, plan_runs, run_job
from ground.errors import CorruptError, UserError
from pipelines.store import TokenStore
from tests.cluster.test_bad_input import assert_one_line
from tests.helpers.disks import mounted
from tests.helpers.recipes import run_steady, small_recipe
from tracking.runs import RunLog
from training.job import Job, Outcome

RATE = "training.learning_rate"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return small_recipe(tmp_path)


def job_of(recipe: Path, *overrides: str, allow: tuple[str, ...] = ()) -> Job:
    loaded = load_recipe(recipe, overrides)
    (planned,) = plan_runs(loaded, device="cpu", peak_flops=None)
    return make_job(planned, TokenStore.open(loaded.store_folder), allow)


def begun(recipe: Path) -> Job:
    """The job of a run that has a checkpoint of step 12."""
    job = job_of(recipe)
    (Path(job.folder) / "checkpoints" / "step-12").mkdir(parents=True)
    return job


def kept(job: Job) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((Path(job.folder) / JOB).read_text())
    return settings


def test_every_difference_is_shown_and_how_to_allow_it(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = kept(begun(recipe))
    changed = ("training.learning_rate=1.0e-5", "training.schedule.kind=wsd")
    ran = run_steady(monkeypatch, capsys, "train", str(recipe), *changed, "--allow", RATE)
    assert_one_line(
        ran,
        "runs.small",
        "training.learning_rate: 0.003 -> 1e-05",
        'training.schedule.kind: "cosine" -> "wsd"',
        "add --allow training.schedule.kind to go on",
    )
    assert kept(job_of(recipe)) == before


def test_an_allowed_change_is_recorded_once(recipe: Path) -> None:
    first = begun(recipe)
    path = Path(first.folder) / JOB
    point = {"step": 14, "tokens": 14 * 512, "metrics": {"train/loss": 5.0}}
    (path.parent / "spool.jsonl").write_text(json.dumps(point) + "\n")
    allow = (RATE, "training.schedule")
    changed = job_of(recipe, f"{RATE}=1.0e-5", "training.schedule.kind=wsd", allow=allow)
    assert changed.accepts(first.digest()) and changed.accepts(changed.digest())
    assert kept(first) == first.identity(), "a check alone writes nothing"
    for _ in range(2):
        (change,) = record_change(path, changed)
    assert kept(changed) == changed.identity()
    assert (change.step, change.digest) == (12, first.digest())
    assert change.changed == {RATE: (0.003, 1e-5), "training.schedule.kind": ("cosine", "wsd")}
    assert change_tags([change]) == {
        "steady.changes": "1",
        "steady.change.1": f"{change.time}, step 12 (curves up to step 14 are of before): "
        f'{RATE}: 0.003 -> 1e-05, training.schedule.kind: "cosine" -> "wsd"',
    }

    path.write_text(json.dumps(first.identity()))  # a kill between the two writes
    assert len(record_change(path, job_of(recipe, f"{RATE}=1.0e-5", "training.schedule.kind=wsd", allow=allow))) == 1

    back = job_of(recipe, allow=allow)  # checkpoints of the changed run are still there
    assert len(record_change(path, back)) == 2
    assert back.accepts(changed.digest())
    assert job_of(recipe).accepts(changed.digest()), "later starts need no --allow"
    assert not first.accepts(changed.digest())


def test_mlflow_and_the_report_tell_of_a_change(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = Outcome(25, 12800, recipe.parent / "model", 1.0)
    monkeypatch.setattr("training.launch.launch", lambda *_, **__: outcome)
    log = Mock(spec=RunLog)
    begun(recipe)
    run_job(job_of(recipe, f"{RATE}=1.0e-5", allow=(RATE,)), log, print, use_gpu=False)
    (tags,) = log.tags.call_args.args
    assert tags["steady.changes"] == "1" and f"step 12: {RATE}: 0.003 -> 1e-05" in tags["steady.change.1"]
    loaded = load_recipe(recipe)
    planned = plan_runs(loaded, device="cpu", peak_flops=None)
    notes = build_report(
        loaded, TokenStore.open(loaded.store_folder), planned, [Finished("small", outcome, {}, {})]
    ).notes
    assert [note for note in notes if "small went on under other settings" in note and "0.003 -> 1e-05" in note]


def test_settings_changed_by_another_command_meanwhile(recipe: Path) -> None:
    path = Path(begun(recipe).folder) / JOB
    mine = job_of(recipe, f"{RATE}=1.0e-5", allow=(RATE,))
    record_change(path, job_of(recipe, f"{RATE}=2.0e-5", allow=(RATE,)))
    with pytest.raises(UserError, match="another command has changed"):
        record_change(path, mine)


@pytest.mark.parametrize(
    ("override", "field", "why"),
    [
        ("mixture.epochs=2", "mixture.epochs", "which tokens come at which step"),
        ("seed=3", "seed", "which tokens come at which step"),
        ("training.global_batch_tokens=1024", "training.global_batch_tokens", "which tokens come at which step"),
        ("model.architecture.layers=3", "model.architecture.layers", "the run's weights come from this model"),
        ("training.zero_stage=2", "training.zero_stage", "optimizer states are laid out for it"),
        ("evaluation.sequences=4", "evaluation.sequences", "measured on other text"),
    ],
)
def test_what_can_never_change(override: str, field: str, why: str, recipe: Path) -> None:
    begun(recipe)
    with pytest.raises(UserError, match=rf"{field} can never change: .*{why}.*another name") as caught:
        job_of(recipe, override, allow=(RATE,))
    assert "--allow" not in str(caught.value)
    with pytest.raises(UserError, match=rf"--allow: {field} can never change in a run \(.*{why}"):
        check_allowed([field])


@pytest.mark.parametrize(
    ("name", "mend"),
    [("training.learning_rat", "use training.learning_rate"), ("training", "name a field"), ("work", "name a field")],
)
def test_a_field_that_could_not_be_allowed(name: str, mend: str) -> None:
    with pytest.raises(UserError, match=f"'{name}' is no field that could change; {mend}"):
        check_allowed([name])
    check_allowed([RATE, "training.schedule", "training.schedule.kind", "evaluation.points"])


def test_before_the_first_step_training_may_change_freely(recipe: Path) -> None:
    """What ran out of memory at its first step needs another ZeRO stage."""
    first = job_of(recipe)
    changed = job_of(recipe, "training.zero_stage=2", "training.micro_batch=2")
    assert record_change(Path(first.folder) / JOB, changed) == []
    assert kept(first) == changed.identity()
    with pytest.raises(UserError, match=r"mixture\.epochs can never change"):
        job_of(recipe, "mixture.epochs=2")


def test_a_complete_run_never_changes(recipe: Path) -> None:
    job = begun(recipe)
    (Path(job.folder) / RESULT).write_text(json.dumps({"steps": 12, "tokens": 6144, "model": "model", "seconds": 1.0}))
    with pytest.raises(UserError, match="it is complete"):
        job_of(recipe, f"{RATE}=1.0e-5", allow=(RATE,))


def test_damaged_notes_are_named(recipe: Path) -> None:
    folder = Path(begun(recipe).folder)
    (folder / "changes.json").write_text('{"changes": [{}]}')
    with pytest.raises(CorruptError, match=r"changes\.json.*is damaged"):
        read_changes(folder)
    (folder / JOB).write_text("{")
    with pytest.raises(CorruptError, match=r"job\.json.*is damaged"):
        job_of(recipe)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A file system that takes no writes."""
    with mounted(tmp_path / "disk", "ro") as folder:
        yield folder


@pytest.mark.parametrize("command", ["curate", "train"])
def test_a_work_folder_that_takes_no_writes(
    command: str, recipe: Path, read_only: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = [f"work={read_only / 'work'}", f"curation.store={recipe.parent / 'work' / 'store'}"]
    if command == "curate":
        elsewhere[1] = f"curation.store={read_only / 'store'}"
    ran = run_steady(monkeypatch, capsys, command, str(recipe), *elsewhere)
    assert_one_line(ran, "work", str(read_only), "Read-only file system")


def test_a_work_folder_that_vanishes_in_mid_command(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = recipe.parent / "work"

    def vanish(*arguments: Any) -> Job:
        work.rename(recipe.parent / "unmounted")
        work.write_text("")  # so that it cannot be made anew
        return make_job(*arguments)

    monkeypatch.setattr("cluster.commands.make_job", vanish)
    ran = run_steady(monkeypatch, capsys, "train", str(recipe))
    assert_one_line(ran, "steady: work: ", str(work), "Not a directory", "run the same command again")


def test_storage_that_a_worker_lost_is_told_too(recipe: Path) -> None:
    loaded = load_recipe(recipe)
    shard = str(loaded.store_folder / "med" / "train-00000.tokens")
    lost = RuntimeError("the worker failed")
    lost.__cause__ = FileNotFoundError(errno.ENOENT, "No such file or directory", shard)
    with pytest.raises(UserError, match=rf"curation.store: {shard} cannot be used \(No such file"), storage_of(loaded):
        raise lost
    with pytest.raises(UserError, match=r"work: .*Stale file handle"), storage_of(loaded):
        raise OSError(errno.ESTALE, "Stale file handle")


def test_faults_of_ours_keep_their_traceback(recipe: Path) -> None:
    loaded = load_recipe(recipe)
    with pytest.raises(FileNotFoundError), storage_of(loaded):
        (recipe.parent / "elsewhere" / "file").read_bytes()
    with pytest.raises(ZeroDivisionError), storage_of(loaded):
        1 / 0  # noqa: B018


def test_an_input_url_that_nobody_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = small_recipe(tmp_path, with_store=False)
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/corpus.jsonl"
        ran = run_steady(monkeypatch, capsys, "curate", str(recipe), f"sources.med.paths=[{url}]")
    assert_one_line(ran, "sources.med.paths", url, "check the address")
    assert not (tmp_path / "work" / "store").exists()
