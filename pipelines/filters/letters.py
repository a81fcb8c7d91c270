"""Documents that are mostly digits and signs: tables, dumps, encoded data."""

from __future__ import annotations

import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from pipelines.filters.batch import FilterBatch

_LETTERS = string.ascii_letters.encode()
_SPACES = bytes(code for code in range(0x80) if chr(code).isspace())


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Drops when letters are less than ``minimum_share`` of the characters that are not white space (``few_letters``).

    Combining marks count as letters: without them Hindi and Thai would pass for tables.
    """

    minimum_share: float
    name: str = "letters"

    def reasons(self, batch: FilterBatch) -> Sequence[str]:
        return [self._reason(data) for data in batch.encoded]

    def _reason(self, data: bytes) -> str:
        letters, visible = count_letters(data)
        return "few_letters" if letters < self.minimum_share * visible else ""


def count_letters(data: bytes) -> tuple[int, int]:
    """Letters and visible characters of a text in UTF-8. Deleting bytes is the fastest way to count them."""
    visible = data.translate(None, _SPACES)
    others = visible.translate(None, _LETTERS)
    letters, size = len(visible) - len(others), len(visible)
    if not others.isascii():
        size -= len(others)
        beyond = Counter(others.decode())  # what is left of the text is short, except in other scripts
        for character, count in beyond.items():
            kind = _kind(character)
            letters += count if kind == "letter" else 0
            size += count if kind != "space" else 0
    return letters, size


@lru_cache(maxsize=1 << 16)
def _kind(character: str) -> str:
    if character.isspace():
        return "space"
    return "letter" if unicodedata.category(character)[0] in "LM" else "other"
