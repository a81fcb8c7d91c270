"""What surrounds a run and may ask something of it: a driver that is told to stop, a node that goes away, a watchdog."""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path


class Request(IntEnum):
    """What is asked of a run; the larger one counts."""

    NONE = 0
    SAVE = 1
    """Write a checkpoint now: this worker's machine may go away soon."""
    STOP = 2
    """Write a checkpoint and end."""


class Stopped(Exception):  # noqa: N818 (it is no error)
    """The run ended early, as it was asked to, with a checkpoint of ``step``."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step

    def __reduce__(self) -> tuple[type[Stopped], tuple[int]]:
        return Stopped, (self.step,)


class Control:
    """Asks nothing, watches nothing: what a test or a small trial needs. ``launch.py`` has the one for a cluster."""

    def requested(self) -> Request:
        """What is asked of this worker now. Called at every record; must not wait."""
        return Request.NONE

    def tick(self, doing: str) -> None:
        """The worker makes progress: ``doing`` begins now."""

    def finished(self) -> None:
        """No more progress is to be expected: what is left (a last copy to the mirror) takes the time it takes."""

    def saved(self, folder: Path) -> None:
        """A checkpoint is whole (rank 0 only, in the writing thread)."""
