"""Documents too short to learn from, or too long to be one document."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LengthFilter:
    """Drops by the number of characters without the white space at both ends (``too_short``, ``too_long``)."""

    minimum: int
    maximum: int
    name: str = "length"

    def __call__(self, text: str) -> str | None:
        characters = len(text.strip())
        if characters < self.minimum:
            return "too_short"
        return "too_long" if characters > self.maximum else None
