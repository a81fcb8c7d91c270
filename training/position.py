"""Where a run stands: what a checkpoint says beside its states."""

from __future__ import annotations

from pydantic import Field

from ground.config import Section


class Rollback(Section):
    """One return to an earlier checkpoint."""

    kind: str
    """The alarm's."""
    step: int
    """Optimiser steps done when it was raised."""
    back_to: int
    """Step of the checkpoint that the run went on from."""
    skip_from: int
    """First batch that is left out."""
    skip_to: int
    """First batch after that is trained again; equal to ``skip_from``: none is left out."""

    def describe(self) -> str:
        """One line for the user."""
        what = f"{self.kind.replace('_', ' ')} at step {self.step}: back to step {self.back_to}"
        left_out = f", batches {self.skip_from} to {self.skip_to - 1} are left out"
        return what + (left_out if self.skip_to > self.skip_from else ", nothing is left out")


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
    measured: dict[str, float] = Field(default_factory=dict)
    """The last held-out metrics, by which the best checkpoint is known."""
    rollbacks: list[Rollback] = Field(default_factory=list)
    """How often and where to the run went back after alarms."""
