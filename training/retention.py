"""Which checkpoints of a run stay on disk, as a pure function."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ground.errors import CorruptError
from training.checkpoint import newest_first, read_position
from training.config import TrainingConfig
from training.position import Position

_LOWER_IS_BETTER = ("/loss", "/bits_per_byte")


@dataclass(frozen=True)
class Retention:
    """What to keep."""

    last: int
    """The newest so many."""
    best: str | None = None
    """A metric; the checkpoint where it was best stays as well."""
    every_tokens: int | None = None
    """The first checkpoint at or after each multiple of so many tokens stays as well."""

    @classmethod
    def of(cls, config: TrainingConfig) -> Retention:
        """The retention that a recipe asks for."""
        return cls(config.keep_checkpoints, config.keep_best, config.keep_every_tokens)


def kept(positions: Sequence[Position], retention: Retention) -> set[int]:
    """Steps of the checkpoints to keep.

    With ties the older one is best. The answer does not depend on what has been removed in the meantime: what was kept by
    an earlier call is kept by a later one, except the last ones and a former best.
    """
    ordered = sorted(positions, key=lambda position: position.step)
    keep = {position.step for position in ordered[-retention.last :]}
    if retention.best is not None:
        name = retention.best
        sign = 1 if name.endswith(_LOWER_IS_BETTER) else -1
        known = [position for position in ordered if name in position.measured]
        if known:
            keep.add(min(known, key=lambda position: sign * position.measured[name]).step)
    if retention.every_tokens is not None:
        passed = 0
        for position in ordered:
            if position.tokens // retention.every_tokens > passed:
                keep.add(position.step)
                passed = position.tokens // retention.every_tokens
    return keep


def prune(folder: Path, retention: Retention) -> list[int]:
    """Remove what need not be kept of a run's checkpoints; returns the steps removed. One process calls this.

    Damaged ones, which have no position, count for nothing and are removed.
    """
    found: dict[Path, Position] = {}
    damaged = []
    for path in newest_first(folder):
        try:
            found[path] = read_position(path)
        except CorruptError:
            damaged.append(path)
    keep = kept(list(found.values()), retention)
    removed = [path for path, position in found.items() if position.step not in keep]
    for path in [*removed, *damaged]:
        shutil.rmtree(path, ignore_errors=True)
    return [found[path].step for path in removed]
