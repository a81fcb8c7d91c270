"""`steady export`: a run's folder becomes a model that everyone loads, with a card that says what it is."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from mlflow.artifacts import download_artifacts
from mlflow.tracking import MlflowClient
from transformers import AutoModelForCausalLM, AutoTokenizer

from cluster.changes import CHANGES as CHANGES_FILE
from cluster.changes import Change
from cluster.export import write_final_card
from ground.files import canonical_json, digest_file
from pipelines.config import MixtureConfig
from pipelines.store import TokenStore
from tests.helpers.recipes import run_steady
from tests.helpers.runs import run_tiny, tiny_job
from tests.helpers.stores import make_store
from tracking.runs import Tracker
from training.export import CARD, EXPORT
from training.job import Job

CHANGES = {"mixture": MixtureConfig(subset_tokens=5 * 512, shares={"med": 0.6, "wiki": 0.4}), "checkpoint_tokens": 1024}


@dataclass(frozen=True)
class Trained:
    """A finished run of five steps as `steady train` leaves it: checkpoints of steps 2 and 4, the model, its records."""

    work: Path
    job: Job
    store: TokenStore

    @property
    def folder(self) -> Path:
        return self.work / "runs" / "tiny"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    work = tmp_path_factory.mktemp("export") / ".steady" / "small"
    store = make_store(work / "store", {"med": ("domain", 30_000), "wiki": ("general", 10_000)})
    folder = work / "runs" / "tiny"
    reporter, outcome = run_tiny(store, folder, **CHANGES)
    job = tiny_job(store, folder, **CHANGES)
    (folder / "job.json").write_text(canonical_json(job.identity()))
    result = {"steps": outcome.steps, "tokens": outcome.tokens, "model": str(outcome.model), "seconds": outcome.seconds}
    (folder / "result.json").write_text(canonical_json(result))
    lines = "".join(json.dumps(record) + "\n" for record in reporter.records)
    (folder / "spool.jsonl").write_text(lines)
    return Trained(work, job, store)


@pytest.fixture
def steady(trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command, run above ``.steady``."""
    monkeypatch.chdir(trained.work.parents[1])
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return lambda *arguments: run_steady(monkeypatch, capsys, "export", *arguments)


def test_without_a_step_it_is_the_final_model(trained: Trained, steady, tmp_path: Path) -> None:
    ran = steady("tiny", "--to", str(tmp_path / "out"))
    assert ran.code == 0, ran.err
    for name in ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json"):
        assert digest_file(tmp_path / "out" / name) == digest_file(trained.folder / "model" / name), name


def test_the_card_says_what_the_model_is(trained: Trained, steady) -> None:
    ran = steady(str(trained.folder), "--step", "4", "--dtype", "bfloat16")
    assert ran.code == 0, ran.err
    target = trained.folder / "exports" / "step-4-bfloat16"
    assert str(target.resolve()) in ran.out
    assert AutoModelForCausalLM.from_pretrained(target).dtype.itemsize == 2
    assert AutoTokenizer.from_pretrained(target)("a tiny text")["input_ids"]
    about = json.loads((target / EXPORT).read_text())
    assert (about["step"], about["tokens"], about["dtype"]) == (4, 2048, "bfloat16")
    _, matter, text = (target / CARD).read_text().split("---\n", 2)
    assert yaml.safe_load(matter)["license"] == "other"
    assert f"`{trained.store.digest}`" in text
    assert "on 2,048 tokens (59.4% med (domain), 40.6% wiki (general)), after step 4 of 5. Weights in bfloat16." in text
    spool = [json.loads(line) for line in (trained.folder / "spool.jsonl").read_text().splitlines()]
    losses = [r["metrics"]["heldout/med/loss"] for r in spool if "heldout/med/loss" in r["metrics"] and r["step"] <= 4]
    assert f"| med | domain | {losses[0]:.4f} | {losses[-1]:.4f} | {losses[-1] - losses[0]:+.4f} |" in text
    assert f"| shares of every batch | med {trained.job.build_plan(trained.store).shares['med']:.2%}" in text
    assert str(trained.work) not in text


def test_the_card_tells_of_settings_that_changed_on_the_way(trained: Trained, steady, tmp_path: Path) -> None:
    run = shutil.copytree(trained.folder, tmp_path / "work" / "runs" / "tiny")
    shutil.copytree(trained.work / "store", tmp_path / "work" / "store")
    changes = [
        Change(time="2026-11-28T12:00:00Z", step=step, recorded_step=step, digest="0" * 32, changed={field: (1, 2)})
        for step, field in ((2, "training.learning_rate"), (4, "training.clip"))
    ]
    (run / CHANGES_FILE).write_text(json.dumps({"changes": [change.model_dump(mode="json") for change in changes]}))
    assert (ran := steady(str(run), "--step", "4")).code == 0, ran.err
    text = (run / "exports" / "step-4" / CARD).read_text()
    assert "- 2026-11-28T12:00:00Z, step 2: training.learning_rate: 1 -> 2\n" in text
    assert "training.clip" not in text, "it came after this step"


def test_an_unfinished_run_gives_its_newest_whole_checkpoint(trained: Trained, steady, tmp_path: Path) -> None:
    run = shutil.copytree(trained.folder, tmp_path / ".steady" / "small" / "runs" / "tiny")
    shutil.copytree(trained.work / "store", tmp_path / "store")  # above the run, where it is found by its digest
    (run / "result.json").unlink()
    damaged = max((run / "checkpoints" / "step-4" / "state").iterdir(), key=lambda path: path.stat().st_size)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    ran = steady(str(run))
    assert ran.code == 0, ran.err
    assert f"{damaged.name} does not match its checksum" in ran.out
    assert json.loads((run / "exports" / "step-2" / EXPORT).read_text())["step"] == 2
    ran = steady(str(run), "--step", "4")
    assert ran.code == 2
    assert "does not match its checksum; use another step" in ran.err


def test_only_an_export_of_the_same_run_is_replaced(trained: Trained, steady, tmp_path: Path) -> None:
    assert steady("tiny", "--step", "2", "--to", str(tmp_path / "out")).code == 0
    (tmp_path / "out" / "mine.txt").touch()
    assert steady("tiny", "--step", "4", "--to", str(tmp_path / "out")).code == 0
    assert not (tmp_path / "out" / "mine.txt").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    ran = steady("tiny", "--to", str(tmp_path / "other"))
    assert ran.code == 2
    assert "is not empty and no export of this run; give a new folder" in ran.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tiny", "--step", "3"), "--step: run tiny has no checkpoint of step 3; there are 2, 4, 5 (the end)"),
        (("nothing",), "RUN: there is no run 'nothing' below .steady; give the folder of a run"),
        ((".steady",), "RUN: .steady is no run's folder (no job.json); give"),
        (("tiny", "--register", "name"), "--register: no MLflow store is known for"),
    ],
)
def test_a_mistake_gives_one_line_with_the_mend(arguments: tuple[str, ...], message: str, steady) -> None:
    ran = steady(*arguments)
    assert ran.code == 2
    assert message in ran.err


def test_without_its_store_it_says_where_that_belongs(trained: Trained, steady, tmp_path: Path) -> None:
    run = shutil.copytree(trained.folder, tmp_path / "work" / "runs" / "tiny")
    ran = steady(str(run))
    assert ran.code == 2
    assert f"put it back as {tmp_path / 'work' / 'store'}" in ran.err


def test_the_final_model_gets_its_card(trained: Trained) -> None:
    write_final_card(trained.folder, trained.job, trained.store)
    text = (trained.folder / "model" / CARD).read_text()
    assert "at the end of the run. Weights in float32." in text
    (trained.folder / "model" / CARD).unlink()


@pytest.mark.slow
def test_a_registered_version_leads_to_the_run_and_the_files(trained: Trained, steady, tmp_path: Path) -> None:
    run = shutil.copytree(trained.folder, tmp_path / "work" / "runs" / "tiny")
    shutil.copytree(trained.work / "store", tmp_path / "work" / "store")
    uri = f"sqlite:///{tmp_path / 'work' / 'mlflow.db'}"
    with Tracker.open(uri, "small").run("tiny", run) as log:
        run_id = log.run_id
    for _ in range(2):  # the second time the version is there already
        ran = steady(str(run), "--step", "4", "--register", "medical")
        assert ran.code == 0, ran.err
        assert "registered as medical, version 1" in ran.out
    assert "version 2" in steady(str(run), "--register", "medical").out
    client = MlflowClient(uri, registry_uri=uri)
    version = client.get_model_version("medical", "1")
    assert version.run_id == run_id
    assert version.tags["steady.store"] == trained.store.digest
    assert (version.tags["steady.step"], version.tags["steady.run_id"]) == ("4", run_id)
    assert version.description.startswith("# tiny")
    kept = Path(download_artifacts(client.get_model_version_download_uri("medical", "1")))
    for file in (run / "exports" / "step-4").iterdir():
        assert digest_file(kept / file.name) == digest_file(file)
    assert client.list_artifacts(run_id, "models/step-4-float32")
    ran = steady(str(run), "--register", "no/slash:please")
    assert ran.code == 2
    assert "--register: 'no/slash:please' is refused" in ran.err
