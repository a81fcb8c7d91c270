"""Documents that say the same lines over and over: menus, logs, generated pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.filters.batch import FilterBatch


@dataclass(frozen=True, slots=True)
class RepeatedLinesFilter:
    """Drops when lines seen before hold more than ``maximum_share`` of a document's characters (``repeated_lines``).

    The first occurrence of a line is no repetition; blank lines and indentation do not count.
    """

    maximum_share: float
    name: str = "repeated_lines"

    def reasons(self, batch: FilterBatch) -> Sequence[str]:
        return [self._reason(text) for text in batch.texts]

    def _reason(self, text: str) -> str:
        lines = [stripped for line in text.splitlines() if (stripped := line.strip())]
        unique = set(lines)
        if len(unique) == len(lines):
            return ""
        characters = sum(map(len, lines))
        repeated = characters - sum(map(len, unique))
        return "repeated_lines" if repeated > self.maximum_share * characters else ""
