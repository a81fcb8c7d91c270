"""Wait for another thread, but not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], limit_s: float = 60.0) -> None:
    """Return once ``condition`` holds; fail after ``limit_s`` seconds, which only a hang takes."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
