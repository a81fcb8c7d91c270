"""Letters between the driver of a run and its workers.

Records travel from rank 0 to the driver through one small actor, because one process writes a run's metrics (law 6) and a
Ray Train callback would run in yet another process.
"""

from __future__ import annotations

from typing import Any

import ray


@ray.remote(num_cpus=0)
class Mailbox:
    """Holds what rank 0 reports until the driver fetches it, and what the driver asks of the workers."""

    def __init__(self) -> None:
        self._letters: list[dict[str, Any]] = []
        self._ended = self._stopping = False

    def put(self, letter: dict[str, Any]) -> None:
        self._letters.append(letter)
        self._ended |= "error" in letter

    def ended(self) -> bool:
        """Whether the run ended with an error that a new start would meet again."""
        return self._ended

    def stop(self) -> None:
        self._stopping = True

    def stopping(self) -> bool:
        """Whether the run is to write a checkpoint and end."""
        return self._stopping

    def drain(self) -> list[dict[str, Any]]:
        letters, self._letters = self._letters, []
        return letters
