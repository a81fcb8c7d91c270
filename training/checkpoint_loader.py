"""Loading a checkpoint into an engine, also one that another number of workers wrote."""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ground.errors import CorruptError
from training.checkpoint import TAG, barrier, read_position
from training.position import Position

_UNIVERSAL = "universal"


def needs_conversion(position: Position) -> bool:
    """Whether optimiser states are split for another number of workers than there are now. The engine must be built with
    ``load_universal`` then (``engine.py``)."""
    return position.zero_stage > 0 and position.world != dist.get_world_size()


def load_checkpoint(engine: Any, folder: Path) -> Position:
    """Restore weights and optimiser states of a whole checkpoint; all ranks call this together.

    Raises:
        CorruptError: there are no states in it.
    """
    position = read_position(folder)
    settings = [{k: v for k, v in group.items() if k != "params"} for group in engine.optimizer.param_groups]
    if not needs_conversion(position):
        loaded = engine.load_checkpoint(str(folder), tag=TAG)[0]
    else:
        loaded = _load_converted(engine, folder)
    if loaded is None:
        raise CorruptError("checkpoint", f"{folder} holds no DeepSpeed state", "use an earlier one")
    # The checkpoint's settings came back with the states: not those of a job whose user allowed a change. Converted ones give
    # all groups those of the first besides, under ZeRO 3 (DeepSpeed 0.19.8).
    for group, own in zip(engine.optimizer.param_groups, settings, strict=True):
        group.update(own)
    return position


def _load_converted(engine: Any, folder: Path) -> Any:
    """Load states that another number of workers wrote: joined to whole tensors first (Lian et al. 2024, Universal
    Checkpointing), of which every rank takes its part."""
    target = folder.with_name(f".{folder.name}.{_UNIVERSAL}")
    if dist.get_rank() == 0:
        from deepspeed.checkpoint import ds_to_universal

        shutil.rmtree(target, ignore_errors=True)
        options = argparse.Namespace(
            input_folder=str(folder / TAG),
            output_folder=str(target / _UNIVERSAL),
            num_extract_workers=1,
            num_merge_workers=1,
            keep_temp_folder=False,
            strict=True,
            inject_missing_state=False,
        )
        with contextlib.redirect_stdout(io.StringIO()):  # it prints a page
            ds_to_universal.main(options)
    barrier()
    loaded = engine.load_checkpoint(str(target), tag=_UNIVERSAL)[0]
    _count_steps_apart(engine)
    barrier()
    if dist.get_rank() == 0:
        shutil.rmtree(target, ignore_errors=True)
    return loaded


def _count_steps_apart(engine: Any) -> None:
    """Undo what loading converted states does wrong under ZeRO 3 (DeepSpeed 0.19.8): all parameters share one count of steps,
    which then grows by their number at every step."""
    optimizer = getattr(engine.optimizer, "optimizer", engine.optimizer)  # torch's own, inside ZeRO's
    for state in optimizer.state.values():
        if torch.is_tensor(state.get("step")):
            state["step"] = state["step"].clone()
