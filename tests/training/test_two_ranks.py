"""Two processes over gloo: the losses of one, and an exact resume."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from ground.files import digest_file
from pipelines.store import TokenStore
from tests.helpers.ranks import run_ranks
from tests.helpers.runs import TIMED, tiny_job
from tests.training.conftest import SHORT, Finished
from training.job import Record

pytestmark = pytest.mark.slow


def curve(records: list[Record], name: str) -> list[float]:
    return [record["metrics"][name] for record in records if name in record["metrics"]]


def numbers(records: list[Record], after: int = -1) -> list[tuple[int, dict[str, Any]]]:
    """Everything recorded after a step but the times."""
    timed = TIMED
    return [
        (record["step"], {key: value for key, value in record["metrics"].items() if key not in timed})
        for record in records
        if record["step"] > after
    ]


@pytest.mark.parametrize("stage", [1, 3])
def test_two_workers_compute_what_one_does_and_resume_exactly(
    store: TokenStore, finished: Finished, tmp_path: Path, stage: int
) -> None:
    changes = SHORT | {"zero_stage": stage, "workers": 2}
    records = run_ranks(tiny_job(store, tmp_path / "whole", **changes), 2)
    for name in ("train/loss", "heldout/med/loss", "heldout/wiki/loss"):
        assert curve(records, name) == pytest.approx(finished.reporter.curve(name), rel=1e-5)
    assert curve(records, "train/share/med") == finished.reporter.curve("train/share/med")
    assert curve(records, "train/gradient_norm") == pytest.approx(
        finished.reporter.curve("train/gradient_norm"), rel=1e-3
    )

    checkpoint = tmp_path / "whole" / "checkpoints" / "step-8"
    again = run_ranks(tiny_job(store, tmp_path / "again", **changes), 2, resume=checkpoint)
    assert numbers(again) == numbers(records)
    whole, resumed = (digest_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "again"))
    assert whole == resumed


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_run_goes_on_with_another_number_of_workers(
    store: TokenStore, finished: Finished, tmp_path: Path, stage: int
) -> None:
    """Two workers to step 8, one to step 16, two to the end: the same batches, the losses of one worker."""
    changes = SHORT | {"zero_stage": stage}
    run_ranks(tiny_job(store, tmp_path / "two", **changes, workers=2), 2)
    shutil.copytree(tmp_path / "two" / "checkpoints" / "step-8", tmp_path / "one" / "checkpoints" / "step-8")
    run_ranks(tiny_job(store, tmp_path / "one", **changes), 1)
    shutil.copytree(tmp_path / "one" / "checkpoints" / "step-16", tmp_path / "end" / "checkpoints" / "step-16")
    records = run_ranks(tiny_job(store, tmp_path / "end", **changes, workers=2), 2)
    assert [record["step"] for record in records] == [record["step"] for record in finished.reporter.records]
    for name in ("train/loss", "heldout/med/loss", "heldout/wiki/loss"):
        assert curve(records, name) == pytest.approx(finished.reporter.curve(name), rel=1e-5)
    assert curve(records, "train/share/med") == finished.reporter.curve("train/share/med")
    assert not [path.name for path in (tmp_path / "end" / "checkpoints").iterdir() if "universal" in path.name]
