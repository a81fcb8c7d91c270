"""Documents too short to learn from, or too long to be one document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.filters.batch import FilterBatch


@dataclass(frozen=True, slots=True)
class LengthFilter:
    """Drops by the number of characters without the white space at both ends (``too_short``, ``too_long``)."""

    minimum: int
    maximum: int | None
    name: str = "length"

    def reasons(self, batch: FilterBatch) -> Sequence[str]:
        return [self._reason(len(text.strip())) for text in batch.texts]

    def _reason(self, characters: int) -> str:
        if characters < self.minimum:
            return "too_short"
        return "too_long" if self.maximum is not None and characters > self.maximum else ""
