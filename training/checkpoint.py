"""Checkpoints of a run: DeepSpeed's files plus where the run stands. Complete or not at all.

    checkpoints/step-<n>/state/             DeepSpeed's files of all ranks
    checkpoints/step-<n>/checksums-<r>.json digests of the files that rank r wrote
    checkpoints/step-<n>/records.json       what rank 0 reported lately
    checkpoints/step-<n>/position.json      where the run stands; written last

A folder gets its name when everything is in it. DeepSpeed saves weights and optimiser states; the position is the step
number (the plan makes the rest), and random numbers are re-seeded from the step, so nothing else needs saving.

Here is how they are found and checked; ``checkpoint_writer.py`` writes them, ``checkpoint_loader.py`` loads them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pydantic import ValidationError

from ground.errors import CorruptError
from ground.files import digest_file
from training.job import Record
from training.position import Position

CHECKPOINTS = "checkpoints"
"""Folder of a run's checkpoints, below the run's own."""
TAG, POSITION, RECORDS = "state", "position.json", "records.json"
_NAME = re.compile(r"step-(\d+)$")


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


def choose_checkpoint(folder: Path) -> Chosen:
    """The newest checkpoint that is whole; all ranks call this together, each checks a part of the files.

    Raises:
        CorruptError: there are checkpoints and none is whole.
    """
    names: list[Any] = [[path.name for path in newest_first(folder)]]
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


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints of a run, the newest first; unfinished ones have other names."""
    found = [(int(match[1]), path) for path in folder.glob("step-*") if (match := _NAME.match(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


def problem_of(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None. One process alone checks every file."""
    try:
        return _problem(folder, 0, 1)
    except CorruptError as error:
        return error.problem


def checksums_name(rank: int) -> str:
    """Name of the file of digests that a rank writes."""
    return f"checksums-{rank}.json"


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
        listed = folder / checksums_name(writer)
        try:
            expected: dict[str, str] = json.loads(listed.read_text())
        except (OSError, ValueError) as error:
            return f"{listed} is missing or damaged ({type(error).__name__})"
        for name, digest in expected.items():
            file = folder / TAG / name
            if not file.is_file() or digest_file(file) != digest:
                return f"{file} does not match its checksum"
    return None


def barrier() -> None:
    """Wait for all ranks."""
    if dist.get_world_size() > 1:
        if torch.cuda.is_available() and dist.get_backend() == "nccl":
            dist.barrier(device_ids=[torch.cuda.current_device()])
        else:
            dist.barrier()
