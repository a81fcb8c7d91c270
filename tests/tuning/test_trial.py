"""A trial's records say what was trained, what was trained twice and what came out, whatever process died when."""

from __future__ import annotations

import gc
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ground.errors import UserError
from ground.files import digest_file
from pipelines.store import TokenStore
from tests.helpers.runs import tiny_job
from tests.helpers.stores import make_store
from training.job import Job as TrainingJob
from tuning.base import base_key, load_base, measure_base, save_base
from tuning.blend import Blend
from tuning.config import ObjectiveConfig
from tuning.history import Job
from tuning.space import Point
from tuning.trial import (
    RECORDS,
    RecordFile,
    checkpoint_tokens,
    read_trial_records,
    redone_tokens,
    reports_of,
    result_of_trial,
    run_here,
    stop_flag,
    trial_job,
)

BLEND = Blend({"med": 1.0}, {"wiki": 1.0})
POINT = Point(3200, 2.0, 0.8, 2e-3)
CPU = torch.device("cpu")


def job(start: float, end: float) -> Job:
    return Job(0, 0, POINT, 5, start, end, "test")


def record(tokens: int, **metrics: float) -> dict[str, Any]:
    return {"step": tokens // 10, "tokens": tokens, "time_ms": 0, "metrics": metrics}


def measured(tokens: int, loss: float) -> dict[str, Any]:
    return record(tokens, **{"heldout/med/loss": loss, "heldout/wiki/loss": loss + 1})


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=6))
def test_what_was_trained_twice(attempts: list[tuple[int, int]]) -> None:
    """Every attempt goes on from a checkpoint at or before where an earlier one came to."""
    import tempfile

    reached = trained = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with open(folder / RECORDS, "w") as file:
            for back, steps in attempts:
                begun = max(0, reached - back)
                file.write(json.dumps({"begun": begun}) + "\n")
                for step in range(begun + 1, begun + steps + 1):
                    file.write(json.dumps(record(step)) + "\n")
                trained += steps
                reached = max(reached, begun + steps)
        assert redone_tokens(folder) == trained - reached


def test_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    file = RecordFile(tmp_path)
    file.record(measured(10, 2.0))
    file.close()
    with open(tmp_path / RECORDS, "a") as torn:
        torn.write('{"step": 2, "tok')
    assert [r["tokens"] for r in read_trial_records(tmp_path)] == [10]
    file = RecordFile(tmp_path)
    file.record(measured(20, 1.5))
    file.close()
    assert [r["tokens"] for r in read_trial_records(tmp_path)] == [10, 20]


def test_reports_are_of_the_jobs_own_part() -> None:
    records = [
        measured(0, 5.0),
        measured(10, 4.0),
        record(12, **{"train/loss": 4.0}),
        measured(20, 3.0),
        measured(30, 2.0),
    ]
    found = reports_of(records, job(10, 20), BLEND, ObjectiveConfig(), failed=False)
    assert [(r.tokens, dict(r.metrics)) for r in found] == [(20, {"domain_loss": 3.0, "general_loss": 4.0})]


def test_a_failed_job_is_charged_to_its_last_token() -> None:
    records = [measured(10, 4.0), record(17, **{"train/loss": 4.0})]
    found = reports_of(records, job(0, 20), BLEND, ObjectiveConfig(), failed=True)
    assert [(r.tokens, dict(r.metrics)) for r in found][1:] == [(17, {})]
    records[-1]["metrics"]["alarm/not_finite"] = 1.0
    last = reports_of(records, job(0, 20), BLEND, ObjectiveConfig(), failed=True)[-1]
    assert last.tokens == 17
    assert math.isnan(last.metrics["domain_loss"])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return make_store(
        tmp_path_factory.mktemp("trial") / "store", {"med": ("domain", 20_000), "wiki": ("general", 10_000)}
    )


def template(store: TokenStore, folder: Path, **changes: Any) -> TrainingJob:
    return tiny_job(store, folder, keep_checkpoints=1, checkpoint_tokens=2048, **changes)


@pytest.mark.slow
def test_a_trial_goes_from_rung_to_rung(store: TokenStore, tmp_path: Path) -> None:
    whole = trial_job(template(store, tmp_path / "a"), BLEND, 0, POINT, 5)
    assert run_here(whole, POINT.tokens, CPU).state == "done"
    rungs = trial_job(template(store, tmp_path / "b"), BLEND, 0, POINT, 5)
    assert run_here(rungs, 1536, CPU).state == "done"
    assert checkpoint_tokens(Path(rungs.folder)) == 1536
    assert not (Path(rungs.folder) / "model").exists()
    assert run_here(rungs, POINT.tokens, CPU).state == "done"
    models = [Path(j.folder) / "model" / "model.safetensors" for j in (whole, rungs)]
    assert digest_file(models[0]) == digest_file(models[1])
    assert redone_tokens(Path(rungs.folder)) == 0
    end = POINT.tokens // 512 * 512
    one = result_of_trial(template(store, tmp_path / "a"), BLEND, ObjectiveConfig(), job(0, end))
    two = result_of_trial(template(store, tmp_path / "b"), BLEND, ObjectiveConfig(), job(1536, end))
    assert one.reports[-1] == two.reports[-1]
    assert one.reports[-1].tokens == end


@pytest.mark.slow
def test_a_trial_leaves_no_engine_behind(store: TokenStore, tmp_path: Path) -> None:
    from deepspeed.runtime.engine import DeepSpeedEngine

    def engines() -> int:
        return sum(type(one) is DeepSpeedEngine for one in gc.get_objects())

    gc.collect()
    before = engines()  # of other tests
    run_here(trial_job(template(store, tmp_path), BLEND, 0, POINT, 5), 1024, CPU)
    assert engines() <= before


def test_a_trial_that_is_told_to_stop_has_a_checkpoint(store: TokenStore, tmp_path: Path) -> None:
    made = trial_job(template(store, tmp_path), BLEND, 0, POINT, 5)
    stop_flag(tmp_path).touch()
    ended = run_here(made, POINT.tokens, CPU)
    assert ended.state == "stopped"
    assert checkpoint_tokens(Path(made.folder)) == 512
    with pytest.raises(UserError, match="reported no domain_loss"):
        result_of_trial(template(store, tmp_path), BLEND, ObjectiveConfig(), job(0, 6144))


def test_a_trial_that_diverges_has_failed(store: TokenStore, tmp_path: Path) -> None:
    """Weights of 1e38 make an infinite loss at the first step after the first update."""
    point = Point(3200, 2.0, 0.8, 1e30)
    made = trial_job(template(store, tmp_path), BLEND, 0, point, 5)
    ended = run_here(made, point.tokens, CPU)
    assert ended.state == "failed"
    assert "training.learning_rate" in ended.reason
    result = result_of_trial(template(store, tmp_path), BLEND, ObjectiveConfig(), job(0, 6144), failed=True)
    assert math.isnan(result.reports[-1].metrics["domain_loss"])


def test_a_mistake_in_the_recipe_is_no_failed_trial(store: TokenStore, tmp_path: Path) -> None:
    made = trial_job(template(store, tmp_path), BLEND, 0, Point(900_000, 1.0, 0.8), 5)
    with pytest.raises(UserError, match="subset_tokens"):
        run_here(made, 900_000, CPU)


def test_the_base_is_measured_as_a_trial_measures_it(store: TokenStore, tmp_path: Path) -> None:
    base = measure_base(template(store, tmp_path), CPU)
    made = trial_job(template(store, tmp_path).model_copy(update={"seed": 7}), BLEND, 0, POINT, 7)
    run_here(made, 512, CPU)
    first = read_trial_records(Path(made.folder))[0]
    for name, value in base.measured.items():
        assert first["metrics"][name] == pytest.approx(value, rel=1e-6)
    assert set(base.errors) == {"med", "wiki"}
    # A random model is equally unsure of everything: its loss differs little between sequences.
    assert 0 < base.errors["wiki"] < 0.1
    assert base.general_error({"wiki": 1.0}) == base.errors["wiki"]
    path = tmp_path / "base.json"
    save_base(path, template(store, tmp_path), base)
    kept = load_base(path, template(store, tmp_path))
    assert kept is not None
    assert dict(kept.measured) == dict(base.measured)
    other = template(store, tmp_path, evaluation={"sequences": 3})
    assert base_key(other) != base_key(template(store, tmp_path))
    assert load_base(path, other) is None
