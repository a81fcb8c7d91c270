"""Signals that end a command: the first one asks, the second one insists."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stopped_by_signals(ask: Callable[[], object]) -> Iterator[list[int]]:
    """Make the first SIGTERM or SIGINT call ``ask``, which stops the run after a checkpoint, and the next one interrupt.

    Yields:
        The signals that came.
    """
    came: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt
        sys.stderr.write("steady: stopping after a checkpoint; again to stop at once\n")
        ask()

    if threading.current_thread() is not threading.main_thread():  # signals go to the main thread alone
        yield came
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
