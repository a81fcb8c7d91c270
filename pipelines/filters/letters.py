"""Documents that are mostly digits and signs: tables, dumps, encoded data."""

from __future__ import annotations

import string
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

_LETTERS = string.ascii_letters.encode()
_SPACES = string.whitespace.encode()


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Drops when letters are less than ``minimum_share`` of the characters that are not white space (``few_letters``).

    Combining marks count as letters: without them Hindi and Thai would pass for tables.
    """

    minimum_share: float
    name: str = "letters"

    def __call__(self, text: str) -> str | None:
        letters, visible = _count_ascii(text.encode()) if text.isascii() else _count(text)
        return "few_letters" if letters < self.minimum_share * visible else None


def _count_ascii(data: bytes) -> tuple[int, int]:
    """Letters and visible characters. Deleting bytes is the fastest way to count them."""
    visible = data.translate(None, _SPACES)
    return len(visible) - len(visible.translate(None, _LETTERS)), len(visible)


def _count(text: str) -> tuple[int, int]:
    letters = visible = 0
    for character, count in Counter(text).items():
        kind = _kind(character)
        letters += count if kind == "letter" else 0
        visible += count if kind != "space" else 0
    return letters, visible


@lru_cache(maxsize=1 << 16)
def _kind(character: str) -> str:
    if character.isspace():
        return "space"
    return "letter" if unicodedata.category(character)[0] in "LM" else "other"
