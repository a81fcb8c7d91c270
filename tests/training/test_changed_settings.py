"""A run that goes on under settings that its user allowed to change."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from ground.errors import UserError
from ground.files import digest_file
from pipelines.store import TokenStore
from tests.helpers.runs import ListReporter, run_tiny, tiny_job
from tests.training.conftest import SHORT, STEPS, Finished
from training.loop import train

_TAKEN = 8
"""Step of the checkpoint that the changed run begins with."""


@pytest.fixture
def begun(finished: Finished, tmp_path: Path) -> Path:
    """The folder of the short run when it had its first checkpoint."""
    name = f"checkpoints/step-{_TAKEN}"
    shutil.copytree(finished.folder / name, tmp_path / "run" / name)
    return tmp_path / "run"


def test_a_checkpoint_of_other_settings_is_refused(begun: Path, store: TokenStore) -> None:
    with pytest.raises(UserError, match="belongs to a run with other settings"):
        run_tiny(store, begun, **SHORT | {"weight_decay": 0.5})


@pytest.mark.parametrize("change", [{"weight_decay": 0.5}, {"beta2": 0.5}, {"learning_rate": 1e-3}])
def test_an_allowed_change_holds_from_the_checkpoint_on(
    change: dict[str, Any], begun: Path, store: TokenStore, finished: Finished
) -> None:
    """DeepSpeed's checkpoint holds the optimizer's settings too: they must not come back."""
    before = tiny_job(store, begun, **SHORT).digest()
    job = tiny_job(store, begun, **SHORT | change).model_copy(update={"allowed_digests": (before,)})
    reporter = ListReporter()
    outcome = train(job, reporter, device=torch.device("cpu"))
    assert outcome.steps == STEPS
    whole = finished.reporter.curve("train/loss")
    losses = {r["step"]: r["metrics"]["train/loss"] for r in reporter.records if "train/loss" in r["metrics"]}
    assert [losses[step] for step in range(_TAKEN + 1, STEPS + 1)] != whole[_TAKEN:]
    assert losses[_TAKEN + 1] == whole[_TAKEN], "the batch and the weights at the checkpoint are the same"
    assert digest_file(outcome.model / "model.safetensors") != digest_file(finished.outcome.model / "model.safetensors")
