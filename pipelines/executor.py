"""Who runs the items of a stage: this process, or (in ``ray_executor``) many.

An item is a plain function's one argument, a JSON object; what the function makes goes to files, what it returns is a
small JSON object. So an item can travel to any worker, and the function knows nothing of who called it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

Item = dict[str, Any]
Result = dict[str, Any]
Function = Callable[[Item], Result]
"""A function at the top level of a module, so that a worker can import it."""


class Executor(Protocol):
    """Runs one function over items."""

    def map(self, function: Function, items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
        """Index and result of every item, in the order in which they end.

        Raises:
            Exception: what the function raised; items that have not begun are not started.
        """


# Workers wait up to 0.2 s between tasks, which is long beside small items. Started again, a task skips the items that were done.
_ITEMS_A_TASK = 8


def deal(items: int, workers: int) -> list[list[int]]:
    """Items as tasks for workers that take the next one when they are free: long tasks first, single items last, so that
    workers end together (guided self-scheduling, Polychronopoulos & Kuck 1987).

    Args:
        items: their number; the largest come first, and go to different tasks.

    Returns:
        Indices of the items of each task, in the order in which to start them.
    """
    sizes, left = [], items
    while left:
        sizes.append(min(_ITEMS_A_TASK, -(-left // (2 * workers))))
        left -= sizes[-1]
    rounds = [task for turn in range(_ITEMS_A_TASK) for task, size in enumerate(sizes) if size > turn]
    hands: list[list[int]] = [[] for _ in sizes]
    for index, task in enumerate(rounds):
        hands[task].append(index)
    return hands


class LocalExecutor:
    """Runs items in this process: for tests, and for work that takes less time than handing it out.

    Args:
        threads: items at a time. Array operations let other threads run; plain Python does not.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads

    def map(self, function: Function, items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
        """Index and result of every item, in order."""
        if self.threads == 1 or len(items) < 2:
            for index, item in enumerate(items):
                yield index, function(item)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            yield from enumerate(pool.map(function, items))
