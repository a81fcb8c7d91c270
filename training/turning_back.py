"""Carrying out a rollback: all ranks together, so that a kill at any moment leaves a run that goes on correctly."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence

import torch.distributed as dist

from ground.errors import UserError
from training.alarms import Alarm
from training.checkpoint import barrier, checkpoint_folder, newest_first, read_position, require_whole
from training.checkpoint_loader import load_checkpoint, needs_conversion
from training.config import TrainingConfig
from training.position import Position, Rollback
from training.rollback import plan_rollback
from training.setup import Prepared


def turn_back(
    alarm: Alarm, settings: TrainingConfig, parts: Prepared, *, earlier: Sequence[Rollback]
) -> tuple[Rollback, Position]:
    """Load the checkpoint before ``alarm`` into the engine; what was decided, and where the run stands now.

    Later checkpoints are of the course that is given up and are removed. If the process is killed before the next one is
    whole, the resumed run meets the alarm again and decides the same.

    Raises:
        UserError: see :func:`training.rollback.plan_rollback`; or the checkpoint is of another number of workers.
    """
    parts.writer.settle()
    folder = parts.checkpoints
    rollback = plan_rollback(alarm, settings.alarms, folder, log_steps=settings.log_steps, earlier=earlier)
    good = checkpoint_folder(folder, rollback.back_to)
    require_whole(good)
    barrier()  # every rank has read the list of checkpoints
    if dist.get_rank() == 0:
        for later in newest_first(folder):
            if read_position(later).step > rollback.back_to:
                shutil.rmtree(later, ignore_errors=True)
        if parts.mirror is not None:
            with contextlib.suppress(OSError):  # unreachable: what is there is overwritten as the run goes on
                parts.mirror.remove_after(rollback.back_to)
    barrier()
    position = read_position(good)
    if needs_conversion(position):
        raise UserError(
            "training.workers",
            f"the checkpoint of step {position.step}, to which the run goes back, is of {position.world} workers",
            "run the same command again to go on from it",
        )
    return rollback, load_checkpoint(parts.engine, good)
