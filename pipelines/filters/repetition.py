"""Documents that say the same lines over and over: menus, logs, generated pages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RepeatedLinesFilter:
    """Drops when lines seen before hold more than ``maximum_share`` of a document's characters (``repeated_lines``).

    The first occurrence of a line is no repetition; blank lines and indentation do not count.
    """

    maximum_share: float
    name: str = "repeated_lines"

    def __call__(self, text: str) -> str | None:
        lines = [stripped for line in text.splitlines() if (stripped := line.strip())]
        unique = set(lines)
        if len(unique) == len(lines):
            return None
        characters = sum(map(len, lines))
        repeated = characters - sum(map(len, unique))
        return "repeated_lines" if repeated > self.maximum_share * characters else None
