"""Reading the next batch while the device computes this one."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from training.feed import Feed, Rows


@dataclass(frozen=True)
class Batch:
    """One worker's part of a global batch."""

    micro_batches: list[Rows]
    target_weight: float | None
    """See :meth:`training.feed.Feed.target_weight`."""


class Prefetch:
    """Batches of a feed, one read ahead in a thread. Which batch is asked for next does not matter for what it holds.

    Args:
        steps: of the whole run; nothing is read beyond.
        pinned: put the rows into page-locked memory, from which copies to a GPU run beside its kernels.
    """

    def __init__(self, feed: Feed, steps: int, *, pinned: bool = False) -> None:
        self._feed, self._steps, self._pinned = feed, steps, pinned
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="steady-feed")
        self._ahead: tuple[int, Future[Batch]] | None = None
        self.waited = 0.0
        """Seconds that :meth:`batch` has kept its caller waiting since this was last set to 0."""

    def batch(self, step: int) -> Batch:
        """This worker's part of batch ``step``."""
        started = time.perf_counter()
        ahead, self._ahead = self._ahead, None
        batch = ahead[1].result() if ahead is not None and ahead[0] == step else self._read(step)
        self.waited += time.perf_counter() - started
        following = step + 1
        self._ahead = (following, self._thread.submit(self._read, following)) if following < self._steps else None
        return batch

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)

    def _read(self, step: int) -> Batch:
        rows = list(self._feed.micro_batches(step))
        return Batch([r.pinned() for r in rows] if self._pinned else rows, self._feed.target_weight(step))
