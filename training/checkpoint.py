"""Checkpoints of a run: DeepSpeed's files plus where the run stands. Written by all ranks, complete or not at all.

    checkpoints/step-<n>/state/             DeepSpeed's files of all ranks
    checkpoints/step-<n>/checksums-<r>.json digests of the files that rank r wrote
    checkpoints/step-<n>/records.json       what rank 0 reported lately
    checkpoints/step-<n>/position.json      where the run stands; written last

A folder gets its name when everything is in it. DeepSpeed saves weights and optimiser states; the position is the step
number (the plan makes the rest), and random numbers are re-seeded from the step, so nothing else needs saving.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pydantic import ValidationError

from ground.config import Section
from ground.errors import CorruptError
from ground.files import canonical_json, digest_file, write_atomic
from training.job import Record

TAG, POSITION, RECORDS = "state", "position.json", "records.json"
_UNIVERSAL = "universal"
_NAME = re.compile(r"step-(\d+)$")


class Position(Section):
    """Where a run stands."""

    step: int
    """Optimiser steps done."""
    tokens: int
    """Tokens seen."""
    seconds: float
    """Time spent in optimiser steps so far, over all starts."""
    job_digest: str
    """Digest of everything that determines the run."""
    shares: dict[str, int]
    """Sequences seen of each source."""
    world: int
    """Workers that wrote it."""
    zero_stage: int
    """How they had split their states."""


@dataclass(frozen=True)
class Chosen:
    """The checkpoint to go on from."""

    folder: Path | None
    """None: there is none, begin at the base."""
    refused: list[str]
    """Why newer ones cannot serve, one line each."""


def checkpoint_folder(folder: Path, step: int) -> Path:
    """Folder of the checkpoint of ``step`` below the run's folder of checkpoints."""
    return folder / f"step-{step}"


def save_checkpoint(engine: Any, folder: Path, position: Position, records: Sequence[Record]) -> None:
    """Write a checkpoint into ``folder``, on storage that all ranks share; all ranks call this together.

    Args:
        records: what rank 0 reported lately. A driver that dies may have read none of it; the resumed run reports it again.
    """
    rank = dist.get_rank()
    writing = folder.with_name(f".{folder.name}.tmp")
    if rank == 0:
        shutil.rmtree(writing, ignore_errors=True)  # a killed attempt's
        writing.mkdir(parents=True)
    _barrier()
    engine.save_checkpoint(
        str(writing),
        tag=TAG,
        save_latest=False,
        client_state={"step": position.step, "universal_checkpoint_info": {"universal_checkpoint_version": 0.2}},
    )
    _barrier()
    own = {file.name: digest_file(file) for file in sorted((writing / TAG).iterdir()) if _is_of(file.name, rank)}
    write_atomic(writing / _checksums(rank), canonical_json(own))
    _barrier()
    if rank == 0:
        write_atomic(writing / RECORDS, json.dumps(list(records)))
        write_atomic(writing / POSITION, canonical_json(position.model_dump()))
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one, which the run fell back behind
        writing.rename(folder)
    _barrier()


def keep_newest(folder: Path, count: int) -> None:
    """Remove all checkpoints of a run but the newest ``count``; one rank calls this."""
    for old in _newest_first(folder)[count:]:
        shutil.rmtree(old, ignore_errors=True)


def choose_checkpoint(folder: Path) -> Chosen:
    """The newest checkpoint that is whole; all ranks call this together, each checks a part of the files.

    Raises:
        CorruptError: there are checkpoints and none is whole.
    """
    names: list[Any] = [[path.name for path in _newest_first(folder)]]
    if dist.get_world_size() > 1:
        dist.broadcast_object_list(names, src=0)
    refused: list[str] = []
    for name in names[0]:
        problem = _problem_of_any_rank(folder / name)
        if problem is None:
            return Chosen(folder / name, refused)
        refused.append(problem)
    if refused:
        raise CorruptError("checkpoint", f"none is whole ({refused[0]})", f"remove {folder} to begin again")
    return Chosen(None, [])


def require_whole(folder: Path) -> None:
    """Check every file of a checkpoint; all ranks call this together.

    Raises:
        CorruptError: a file is missing or differs from what was written.
    """
    problem = _problem_of_any_rank(folder)
    if problem is not None:
        raise CorruptError("checkpoint", problem, "use an earlier one")


def read_position(folder: Path) -> Position:
    """The position of a complete checkpoint.

    Raises:
        CorruptError: the checkpoint is incomplete or damaged.
    """
    try:
        return Position.model_validate_json((folder / POSITION).read_text())
    except (OSError, ValidationError) as error:
        raise CorruptError(
            "checkpoint", f"{folder} is incomplete or damaged ({type(error).__name__})", "use an earlier one"
        ) from None


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
    if not needs_conversion(position):
        loaded = engine.load_checkpoint(str(folder), tag=TAG)[0]
    else:
        loaded = _load_converted(engine, folder)
    if loaded is None:
        raise CorruptError("checkpoint", f"{folder} holds no DeepSpeed state", "use an earlier one")
    return position


def read_records(folder: Path) -> list[Record]:
    """The records kept in a checkpoint.

    Raises:
        CorruptError: they cannot be read.
    """
    try:
        records: list[Record] = json.loads((folder / RECORDS).read_text())
    except (OSError, ValueError) as error:
        reason = type(error).__name__
        raise CorruptError("checkpoint", f"{folder / RECORDS} is damaged ({reason})", "use an earlier one") from None
    return records


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
    _barrier()
    settings = [{k: v for k, v in group.items() if k != "params"} for group in engine.optimizer.param_groups]
    loaded = engine.load_checkpoint(str(target), tag=_UNIVERSAL)[0]
    _mend_optimizer(engine, settings)
    _barrier()
    if dist.get_rank() == 0:
        shutil.rmtree(target, ignore_errors=True)
    return loaded


def _mend_optimizer(engine: Any, settings: Sequence[dict[str, Any]]) -> None:
    """Undo what loading converted states does wrong under ZeRO 3 (DeepSpeed 0.19.8): all groups get the settings of the
    first, and all parameters share one count of steps, which then grows by their number at every step."""
    for group, own in zip(engine.optimizer.param_groups, settings, strict=True):
        group.update(own)
    optimizer = getattr(engine.optimizer, "optimizer", engine.optimizer)  # torch's own, inside ZeRO's
    for state in optimizer.state.values():
        if torch.is_tensor(state.get("step")):
            state["step"] = state["step"].clone()


def _newest_first(folder: Path) -> list[Path]:
    found = [(int(match[1]), path) for path in folder.glob("step-*") if (match := _NAME.match(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


def _checksums(rank: int) -> str:
    return f"checksums-{rank}.json"


def _is_of(name: str, rank: int) -> bool:
    """Whether a DeepSpeed file is this rank's: optimiser shards are named by data-parallel rank, the rest is rank 0's."""
    found = re.search(r"pp_rank_(\d+)_", name)
    return int(found[1]) == rank if found else rank == 0


def _problem_of_any_rank(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None, the same answer on every rank."""
    rank, world = dist.get_rank(), dist.get_world_size()
    try:
        found: str | None = _problem(folder, rank, world)
    except CorruptError as error:
        found = error.problem
    if world == 1:
        return found
    all_found: list[str | None] = [None] * world
    dist.all_gather_object(all_found, found)
    return next((problem for problem in all_found if problem is not None), None)


def _problem(folder: Path, rank: int, world: int) -> str | None:
    """The first file of this rank's part that is missing or differs: the writers' lists are dealt to the ranks."""
    writers = read_position(folder).world
    if rank == 0:
        read_records(folder)
    for writer in range(rank, writers, world):
        listed = folder / _checksums(writer)
        try:
            expected: dict[str, str] = json.loads(listed.read_text())
        except (OSError, ValueError) as error:
            return f"{listed} is missing or damaged ({type(error).__name__})"
        for name, digest in expected.items():
            file = folder / TAG / name
            if not file.is_file() or digest_file(file) != digest:
                return f"{file} does not match its checksum"
    return None


def _barrier() -> None:
    if dist.get_world_size() > 1:
        if torch.cuda.is_available() and dist.get_backend() == "nccl":
            dist.barrier(device_ids=[torch.cuda.current_device()])
        else:
            dist.barrier()
