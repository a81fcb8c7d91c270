"""Checkpoints of a run: DeepSpeed's files plus where the run stands. Written by all ranks, complete or not at all.

DeepSpeed saves weights and optimiser states; the position is the step number (the plan makes the rest), and random
numbers are re-seeded from the step, so nothing else needs saving.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist
from pydantic import ValidationError

from ground.config import Section
from ground.errors import CorruptError
from ground.files import canonical_json, digest_file, write_atomic
from training.job import Record

TAG, POSITION, RECORDS = "state", "position.json", "records.json"


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


def save_checkpoint(engine: Any, folder: Path, position: Position, records: Sequence[Record]) -> None:
    """Write a checkpoint into ``folder``; all ranks call this together. The position file is written last.

    Args:
        records: what rank 0 reported lately. A driver that dies may have read none of it; the resumed run reports it again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    engine.save_checkpoint(
        str(folder),
        tag=TAG,
        save_latest=False,
        client_state={"step": position.step, "universal_checkpoint_info": {"universal_checkpoint_version": 0.2}},
    )
    if dist.get_world_size() > 1:
        dist.barrier()
    rank = dist.get_rank()
    own = {file.name: digest_file(file) for file in sorted((folder / TAG).iterdir()) if _is_of(file.name, rank)}
    write_atomic(folder / _checksums(rank), canonical_json(own))
    if rank == 0:
        write_atomic(folder / RECORDS, json.dumps(list(records)))
        write_atomic(folder / POSITION, canonical_json(position.model_dump()))


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


def load_checkpoint(engine: Any, folder: Path) -> Position:
    """Restore weights and optimiser states at the same world size; all ranks call this together."""
    position = read_position(folder)
    _verify(folder, dist.get_rank())
    loaded = engine.load_checkpoint(str(folder), tag=TAG)[0] if (folder / TAG).is_dir() else None
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


def _checksums(rank: int) -> str:
    return f"checksums-{rank}.json"


def _is_of(name: str, rank: int) -> bool:
    """Whether a DeepSpeed file is this rank's: optimiser shards are named by data-parallel rank, the rest is rank 0's."""
    found = re.search(r"pp_rank_(\d+)_", name)
    return int(found[1]) == rank if found else rank == 0


def _verify(folder: Path, rank: int) -> None:
    """Check the files this rank wrote (every rank checks its own, so all are checked once).

    Raises:
        CorruptError: names the first file that is missing or differs.
    """
    try:
        expected: dict[str, str] = json.loads((folder / _checksums(rank)).read_text())
    except (OSError, ValueError) as error:
        raise CorruptError(
            "checkpoint",
            f"{folder / _checksums(rank)} is missing or damaged ({type(error).__name__})",
            "use an earlier one",
        ) from None
    for name, digest in expected.items():
        file = folder / TAG / name
        if not file.is_file() or digest_file(file) != digest:
            raise CorruptError("checkpoint", f"{file} does not match its checksum", "use an earlier one")
