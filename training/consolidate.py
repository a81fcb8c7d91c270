"""Whole weights out of a checkpoint: no process group, no GPU, any ZeRO stage, any number of workers that wrote it."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from ground.errors import CorruptError
from training.checkpoint import TAG, problem_of, read_position
from training.position import Position

Weights = dict[str, torch.Tensor]

_PARTITIONS_PARAMETERS = 3
"""The ZeRO stage from which on no file holds whole parameters."""


def require_undamaged(checkpoint: Path) -> Position:
    """Where a checkpoint stands, after reading every file of it and comparing its checksum.

    Raises:
        CorruptError: a file is missing or differs from what was written.
    """
    problem = problem_of(checkpoint)
    if problem is not None:
        raise CorruptError("checkpoint", problem, "use another step")
    return read_position(checkpoint)


def read_weights(checkpoint: Path, names: Collection[str], dtype: torch.dtype | None = None) -> Weights:
    """Those of ``names`` that a checkpoint has, on the CPU. Only for checkpoints that ``require_undamaged`` passed.

    Args:
        names: of parameters and buffers, a tied one by one of its names: a checkpoint may hold it twice.
        dtype: of the floating-point weights; None: that of the training, which gives the bits that the run's own export
            at this step would have. In mixed precision another one is rounded once, from the fp32 master weights; where
            these are not kept apart (frozen weights, perhaps ZeRO 0), what the training used is converted.

    Raises:
        CorruptError: DeepSpeed's files do not fit together.
    """
    state, stage = checkpoint / TAG, read_position(checkpoint).zero_stage
    whole = stage < _PARTITIONS_PARAMETERS
    name = "mp_rank_00_model_states.pt" if whole else "zero_pp_rank_0_mp_rank_00_model_states.pt"
    module: Weights = torch.load(state / name, map_location="cpu", mmap=True, weights_only=True)["module"]
    wanted = {
        key: dtype if dtype and value.is_floating_point() else value.dtype
        for key, value in module.items()
        if key in names
    }
    rounds = any(module[key].dtype not in (kind, torch.float32) for key, kind in wanted.items())
    if whole and not rounds:
        return _convert(module, wanted)
    try:
        weights = {**module, **_joined_masters(state, module)} if whole else _gathered_masters(checkpoint)
    except (ValueError, KeyError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CorruptError("checkpoint", f"{state} does not fit together ({reason})", "use another step") from None
    return _convert(weights, wanted)


def _convert(weights: Mapping[str, Any], wanted: Mapping[str, torch.dtype]) -> Weights:
    """Tensors of the wanted names and types; none keeps a larger one in memory that it is a part of."""
    converted = {}
    for name in weights.keys() & wanted.keys():
        whole = weights[name].contiguous().to(wanted[name])  # DeepSpeed's own stand-ins gather their parts here
        is_part = whole.untyped_storage().nbytes() > whole.nbytes
        converted[name] = whole.clone() if is_part else whole
    return converted


def _joined_masters(state: Path, module: Weights) -> Weights:
    """The fp32 weights of ZeRO 1 and 2 that learn. Each rank's file says which piece of which weight stands where in its
    flat partitions, as DeepSpeed's own conversion reads them (``checkpoint/ds_to_universal.py``); without such files, none.
    """
    _prepare_deepspeed()
    parts: dict[str, list[torch.Tensor]] = {}
    for file in sorted(state.glob("*_optim_states.pt"), key=_rank):
        # More than tensors is unpickled here, which only a checkpoint of one's own may ask for.
        loaded = torch.load(file, map_location="cpu", mmap=True, weights_only=False)["optimizer_state_dict"]
        for flat, pieces in zip(loaded["single_partition_of_fp32_groups"], loaded["param_slice_mappings"], strict=True):
            for name, piece in pieces.items():
                parts.setdefault(name, []).append(flat.narrow(0, piece.start, piece.numel))
    return {name: torch.cat(pieces).view(module[name].shape) for name, pieces in parts.items()}


def _rank(file: Path) -> int:
    found = re.search(r"pp_rank_(\d+)_", file.name)
    return int(found[1]) if found else 0


def _gathered_masters(checkpoint: Path) -> dict[str, Any]:
    """All fp32 weights of ZeRO 3, frozen ones too. ``contiguous`` gathers the parts of each."""
    _prepare_deepspeed()
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    quiet = io.StringIO()  # it prints a page and shows bars
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        masters: dict[str, Any] = get_fp32_state_dict_from_zero_checkpoint(str(checkpoint), tag=TAG, lazy_mode=True)
    return masters


def _prepare_deepspeed() -> None:
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # it would look for one and warn
