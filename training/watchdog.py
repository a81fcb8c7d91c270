"""A watchdog against hangs: a worker that makes no progress for a stated time ends itself, with a reason.

A collective whose partner is gone waits for ever, or for half an hour. Each worker watches itself: a thread looks at the time
of the last sign of progress, and when that is too long ago, writes where all threads stand to stderr, tells the user and
ends the process, so that Ray Train starts the workers again from the last checkpoint. A worker that is stopped as a whole
cannot watch itself; its partners end then, or Ray's own health check does (see ``launch.py``).
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

EXIT_CODE = 70
"""Of a process that its watchdog ended (EX_SOFTWARE of sysexits.h)."""


class Watchdog:
    """Watches the block it is used for. :meth:`tick` is the sign of progress.

    Args:
        seconds: longest time without a sign.
        barked: called with one line before the process ends.
        end: ends the process.
    """

    def __init__(self, seconds: float, barked: Callable[[str], None], *, end: Callable[[int], None] = os._exit) -> None:
        self._seconds, self._barked, self._end = seconds, barked, end
        self._doing, self._since = "starting", time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="steady-watchdog", daemon=True)

    def tick(self, doing: str) -> None:
        """Say what begins now."""
        self._doing, self._since = doing, time.monotonic()

    def __enter__(self) -> Self:
        self._since = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(min(1.0, self._seconds / 4)):
            silent = time.monotonic() - self._since
            if silent > self._seconds:
                faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr, all_threads=True)
                self._barked(f"no progress for {silent:.0f} s ({self._doing}); this worker ends")
                self._end(EXIT_CODE)
                return
