"""Going back before a divergence: which checkpoint, and which batches are left out.

Chowdhery et al. (2022, PaLM, section 5.1) restarted from a checkpoint about 100 steps before a loss spike and skipped 200 to
500 batches; the spikes did not come back. The plan makes this exact here: batch t is what it is, so a window of batches can
be named, left out, and left out again by a run that is resumed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ground.errors import UserError
from training.alarms import Alarm
from training.checkpoint import newest_first
from training.config import AlarmConfig
from training.position import Rollback


def plan_rollback(
    alarm: Alarm, config: AlarmConfig, checkpoints: Path, *, log_steps: int, earlier: Iterable[Rollback]
) -> Rollback:
    """Where to go on after an alarm.

    The loss is only known every ``log_steps`` steps, so the offending window begins after the last record that did not stand
    out: batches ``since - log_steps`` to ``step - 1``, and ``config.skip_more`` after it.

    Raises:
        UserError: there were too many already, or no checkpoint is old enough.
    """
    done = len(list(earlier))
    if done >= config.max_rollbacks:
        raise UserError(
            "training.alarms.max_rollbacks",
            f"{alarm.kind.replace('_', ' ')} at step {alarm.step} after {done} rollbacks",
            "lower training.learning_rate, or look at the data of these steps",
        )
    first = max(0, alarm.since - log_steps)
    steps = [int(path.name.split("-")[1]) for path in newest_first(checkpoints)]
    good = next((step for step in steps if step <= first), None)
    if good is None:
        raise UserError(
            "training.alarms.rollback",
            f"no checkpoint is as old as step {first}, where {alarm.kind.replace('_', ' ')} begins",
            "keep more of them (training.keep_checkpoints) or lower training.learning_rate",
        )
    skip_to = alarm.step + config.skip_more if config.rollback == "skip" else first
    return Rollback(kind=alarm.kind, step=alarm.step, back_to=good, skip_from=first, skip_to=skip_to)


def is_skipped(batch: int, rollbacks: Iterable[Rollback]) -> bool:
    """Whether a batch of the plan is left out."""
    return any(rollback.skip_from <= batch < rollback.skip_to for rollback in rollbacks)
