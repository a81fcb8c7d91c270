"""Documents of signs or of digits: formulas, encoded data, tables of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.filters.batch import FilterBatch, first_reasons, share
from pipelines.filters.config import Symbols

_SPACES = bytes(code for code in range(0x80) if chr(code).isspace())
_DIGITS = b"0123456789"
_SIGNS = bytes(code for code in range(0x21, 0x7F) if not chr(code).isalnum())


@dataclass(frozen=True, slots=True)
class SymbolsFilter:
    """Drops by the shares of ASCII signs (``many_symbols``) and digits (``many_digits``) among the visible bytes."""

    limits: Symbols
    name: str = "symbols"

    def reasons(self, batch: FilterBatch) -> Sequence[str]:
        digits, symbols, visible = np.array([_counts(data) for data in batch.encoded]).T
        rules = [
            ("many_symbols", share(symbols, visible) > self.limits.max_symbols),
            ("many_digits", share(digits, visible) > self.limits.max_digits),
        ]
        return first_reasons(len(batch), rules)


def _counts(data: bytes) -> tuple[int, int, int]:
    """ASCII digits, ASCII signs, and visible bytes."""
    visible = data.translate(None, _SPACES)
    plain = visible.translate(None, _DIGITS)
    return len(visible) - len(plain), len(plain) - len(plain.translate(None, _SIGNS)), len(visible)
