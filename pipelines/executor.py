"""Who runs the items of a stage: this process, or (in ``ray_executor``) many.

An item is a plain function's one argument, a JSON object; what the function makes goes to files, what it returns is a
small JSON object. So an item can travel to any worker, and the function knows nothing of who called it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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


class LocalExecutor:
    """Runs items one after the other in this process: for tests, previews and corpora of a few megabytes."""

    def map(self, function: Function, items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
        """Index and result of every item, in order."""
        for index, item in enumerate(items):
            yield index, function(item)
