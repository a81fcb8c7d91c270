"""Going back after an alarm."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ground.errors import UserError
from ground.files import digest_file
from pipelines.store import TokenStore
from tests.helpers.runs import ListReporter, run_tiny
from tests.training.conftest import SHORT, Finished
from training import loop
from training.alarms import Alarm
from training.checkpoint import checkpoint_folder, read_position
from training.config import AlarmConfig
from training.model import training_loss
from training.rollback import is_skipped, plan_rollback

ALARM = Alarm("loss_spike", step=30, value=9.0, expected=2.0, since=28)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    for step in (0, 10, 20, 25, 30):
        checkpoint_folder(tmp_path, step).mkdir()
    return tmp_path


def test_the_newest_checkpoint_before_the_window_serves(checkpoints: Path) -> None:
    config = AlarmConfig(rollback="skip", skip_more=5)
    plan = plan_rollback(ALARM, config, checkpoints, log_steps=2, earlier=[])
    assert (plan.back_to, plan.skip_from, plan.skip_to) == (25, 26, 35)
    assert [batch for batch in range(40) if is_skipped(batch, [plan])] == list(range(26, 35))
    further = plan_rollback(ALARM, config, checkpoints, log_steps=4, earlier=[])
    assert (further.back_to, further.skip_from) == (20, 24)
    retry = plan_rollback(ALARM, AlarmConfig(rollback="retry"), checkpoints, log_steps=2, earlier=[])
    assert not any(is_skipped(batch, [retry]) for batch in range(40))
    assert "back to step 25" in retry.describe() and "nothing is left out" in retry.describe()


def test_there_is_an_end_to_it(checkpoints: Path) -> None:
    config = AlarmConfig(rollback="retry", max_rollbacks=1)
    once = plan_rollback(ALARM, config, checkpoints, log_steps=1, earlier=[])
    with pytest.raises(UserError, match=r"max_rollbacks.*loss spike at step 30 after 1 rollbacks"):
        plan_rollback(ALARM, config, checkpoints, log_steps=1, earlier=[once])
    early = Alarm("loss_spike", step=9, value=9.0, expected=2.0, since=9)
    checkpoint_folder(checkpoints, 0).rmdir()
    with pytest.raises(UserError, match="no checkpoint is as old as step 8"):
        plan_rollback(early, config, checkpoints, log_steps=1, earlier=[])


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Make the loss of some batches not a number, the first ``times`` they are met."""

    def install(batches: set[int], times: int) -> list[int]:
        met: list[int] = []
        current = [0]
        real_seed = loop._seed_at

        def seeded(seed: int, at: int, rank: int) -> int:
            current[0] = at
            return real_seed(seed, at, rank)

        def bad(*arguments: Any, **named: Any) -> torch.Tensor:
            loss = training_loss(*arguments, **named)
            if current[0] in batches and met.count(current[0]) < times * 2:  # two micro-batches a step
                met.append(current[0])
                return loss * math.nan
            return loss

        monkeypatch.setattr(loop, "_seed_at", seeded)
        monkeypatch.setattr(loop, "training_loss", bad)
        return met

    return install


def test_a_fault_that_does_not_come_back_leaves_no_trace(
    store: TokenStore, finished: Finished, tmp_path: Path, poison: Callable[..., list[int]]
) -> None:
    poison({10, 18}, times=1)
    reporter, outcome = run_tiny(store, tmp_path, **SHORT, alarms=AlarmConfig(rollback="retry"))
    assert [n.split(": ", 1)[1] for n in reporter.notices] == [
        "not finite at step 11: back to step 8, nothing is left out",
        "not finite at step 19: back to step 16, nothing is left out",
    ]
    assert digest_file(outcome.model / "model.safetensors") == digest_file(finished.outcome.model / "model.safetensors")
    assert losses(reporter) == losses(finished.reporter)
    assert reporter.curve("train/rollbacks") == [1.0, 2.0]


def test_a_bad_batch_is_left_out_exactly(
    store: TokenStore, finished: Finished, tmp_path: Path, poison: Callable[..., list[int]]
) -> None:
    met = poison({10}, times=99)
    reporter, outcome = run_tiny(store, tmp_path / "a", **SHORT, alarms=AlarmConfig(rollback="skip", skip_more=2))
    assert met == [10, 10]  # never met again
    assert losses(reporter).keys() == losses(finished.reporter).keys() - {11, 12, 13}
    assert {s: x for s, x in losses(reporter).items() if s <= 10} == {
        s: x for s, x in losses(finished.reporter).items() if s <= 10
    }
    position = read_position(checkpoint_folder(tmp_path / "a" / "checkpoints", 16))
    assert [(r.skip_from, r.skip_to) for r in position.rollbacks] == [(10, 13)]
    assert sum(position.shares.values()) == (16 - 3) * 8
    assert reporter.curve("train/skipped_steps") == [3.0]

    resume = checkpoint_folder(tmp_path / "a" / "checkpoints", 16)  # a resumed run leaves it out as well
    again, other = run_tiny(
        store, tmp_path / "b", resume=resume, **SHORT, alarms=AlarmConfig(rollback="skip", skip_more=2)
    )
    assert digest_file(outcome.model / "model.safetensors") == digest_file(other.model / "model.safetensors")
    assert losses(again).items() <= losses(reporter).items()


def test_before_the_first_checkpoint_it_goes_back_to_the_base(
    store: TokenStore, tmp_path: Path, poison: Callable[..., list[int]]
) -> None:
    poison({2}, times=99)
    reporter, _ = run_tiny(store, tmp_path, **SHORT, alarms=AlarmConfig(rollback="skip"))
    assert "back to step 0, batches 2 to 2 are left out" in reporter.notices[0]


def losses(reporter: ListReporter) -> dict[int, float]:
    return {r["step"]: r["metrics"]["train/loss"] for r in reporter.records if "train/loss" in r["metrics"]}
