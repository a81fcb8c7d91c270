"""Two processes over gloo: the losses of one, and an exact resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ground.files import digest_file
from pipelines.store import TokenStore
from tests.helpers.ranks import run_ranks
from tests.helpers.runs import tiny_job
from tests.training.conftest import SHORT, Finished
from training.job import Record

pytestmark = pytest.mark.slow


def curve(records: list[Record], name: str) -> list[float]:
    return [record["metrics"][name] for record in records if name in record["metrics"]]


def numbers(records: list[Record], after: int = -1) -> list[tuple[int, dict[str, Any]]]:
    """Everything recorded after a step but the times."""
    timed = ("train/tokens_per_second", "train/mfu")
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
