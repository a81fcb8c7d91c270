"""What a filter and a repair are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from pipelines.filters.batch import FilterBatch


@runtime_checkable
class Filter(Protocol):
    """Decides which documents go, each from its text alone, so that any batch and any worker gives the same answer.

    A new filter is one small file with a frozen dataclass that has these two members and a section in ``config``; add it
    to ``build_steps``.
    """

    @property
    def name(self) -> str:
        """Name of its section in the recipe."""

    def reasons(self, batch: FilterBatch) -> Sequence[str]:
        """For every document the reason to drop it (``lower_snake_case``, the key it is counted under), or "" to keep it."""


@runtime_checkable
class Repair(Protocol):
    """Mends texts, each by itself. What it cannot mend it leaves as it is."""

    @property
    def name(self) -> str:
        """Name of its section in the recipe, under which the documents it changed are counted."""

    def repair(self, texts: Sequence[str]) -> list[str]:
        """The texts, mended."""


Step = Filter | Repair
