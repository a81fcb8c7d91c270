"""Letting two training programs take turns, one optimiser step each, and timing the steps from outside.

Every rank of both programs stops at a gate before each step. The referee opens one side's gate, waits until all its ranks
stand at the next, and takes the time between; then it is the other side's turn. While one works, the other waits for a byte
from a socket and takes no processor time. Neighbouring times fall within seconds of each other, so whatever else the
machine does falls on both.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

GATE = "STEADY_BENCHMARK_GATE"
"""Environment variable: path of the referee's socket."""

_POLL_SECONDS = 0.5
_STEP_SECONDS = 300.0
_GO, _FREE = "go\n", "free\n"


class Gate:
    """One rank's side of it.

    Args:
        side: name of the program.
        path: of the referee's socket; absent: as the environment says.
    """

    def __init__(self, side: str, rank: int, path: str | None = None) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path or os.environ[GATE])
        self._lines = self._socket.makefile("r")
        self._free, self._since = False, _spent()
        self._say(f"{side} {rank}")

    def wait(self) -> None:
        """Wait for this side's turn to take a step. Does nothing any more when the referee has seen enough."""
        if self._free:
            return
        processor, delayed = (now - since for now, since in zip(_spent(), self._since, strict=True))
        self._say(f"{processor:.6f} {delayed:.6f}")
        answer = self._lines.readline()
        self._since = _spent()
        if not answer:
            raise RuntimeError("the referee is gone")
        self._free = answer == _FREE

    def _say(self, line: str) -> None:
        self._socket.sendall(f"{line}\n".encode())


@dataclass(frozen=True)
class Turns:
    """What the referee saw of one side, a number per step."""

    seconds: list[float] = field(default_factory=list)
    processor_seconds: list[float] = field(default_factory=list)
    """Of all threads of all ranks, from gate to gate."""
    delayed_seconds: list[float] = field(default_factory=list)
    """How long the training thread could have run but had no processor: the longest of the ranks. 0 on a quiet machine."""


class Referee:
    """Opens the gates.

    Args:
        sides: names of the programs and how many ranks each has.
        check: called while waiting; raises when a program has died.
    """

    def __init__(self, path: Path, sides: Mapping[str, int], check: Callable[[], None]) -> None:
        self._sides, self._check = sides, check
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(_POLL_SECONDS)
        self._ranks: dict[str, list[_Rank]] = {side: [] for side in sides}

    def play(self, steps: int, *, starting_seconds: float) -> dict[str, Turns]:
        """Let each side take ``steps`` steps in turn, then let both run on freely.

        Raises:
            TimeoutError: a program did not come to its gate.
        """
        self._meet(starting_seconds)
        for ranks in self._ranks.values():  # all are ready before the first is let through
            self._arrive(ranks)
        turns = {side: Turns() for side in self._sides}
        for step in range(steps):
            order = list(self._sides)
            for side in order if step % 2 else reversed(order):
                ranks = self._ranks[side]
                started = time.perf_counter()
                _answer(ranks, _GO)
                self._arrive(ranks)
                turns[side].seconds.append(time.perf_counter() - started)
                turns[side].processor_seconds.append(sum(rank.processor_seconds for rank in ranks))
                turns[side].delayed_seconds.append(max(rank.delayed_seconds for rank in ranks))
        for ranks in self._ranks.values():
            _answer(ranks, _FREE)
        return turns

    def close(self) -> None:
        """Close the sockets."""
        for rank in (rank for ranks in self._ranks.values() for rank in ranks):
            rank.connection.close()
        self._listener.close()

    def _meet(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while any(len(self._ranks[side]) < world for side, world in self._sides.items()):
            self._check()
            if time.monotonic() > end:
                raise TimeoutError(f"the programs did not begin to train within {seconds:g} s")
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(_STEP_SECONDS)
            rank = _Rank(connection, connection.makefile("r"))
            side = rank.lines.readline().split()[0]
            self._ranks[side].append(rank)

    def _arrive(self, ranks: Sequence[_Rank]) -> None:
        """Wait until all ranks stand at their gates."""
        for rank in ranks:
            line = rank.lines.readline()
            if not line:
                self._check()
                raise RuntimeError("a program ended before its last step")
            rank.processor_seconds, rank.delayed_seconds = map(float, line.split())


@dataclass
class _Rank:
    connection: socket.socket
    lines: TextIO
    processor_seconds: float = 0.0
    delayed_seconds: float = 0.0


def _spent() -> tuple[float, float]:
    """Processor seconds of this process, and seconds that this thread has waited for a processor."""
    delayed = Path("/proc/thread-self/schedstat").read_text().split()[1]  # nanoseconds on the run queue
    return time.process_time(), int(delayed) / 1e9


def _answer(ranks: Sequence[_Rank], line: str) -> None:
    for rank in ranks:
        rank.connection.sendall(line.encode())
