"""Ranking by what stands beside a document's text: the turns of its conversation, or a score that the data brings along."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


class ColumnScorer(Protocol):
    """Scores documents by one column that stands beside their text. One to a process."""

    reads: Literal["messages", "metadata"]
    """The column: JSON texts, or None where a document has none."""

    def score(self, values: Sequence[str | None]) -> Scores:
        """[documents] scores of the documents with these values of the column.

        Lower is better; documents that cannot be scored get infinity. A score depends on its document alone.
        """


class FieldScorer:
    """A number of the document's metadata, computed elsewhere.

    Args:
        field: its name.
        higher_is_better: whether the sign is turned.
    """

    reads: Literal["messages", "metadata"] = "metadata"

    def __init__(self, field: str, *, higher_is_better: bool) -> None:
        self._field, self._sign = field, -1.0 if higher_is_better else 1.0

    def score(self, values: Sequence[str | None]) -> Scores:
        """See ``ColumnScorer``."""
        numbers = (field_value(text, self._field) for text in values)
        return np.array([math.inf if number is None else self._sign * number for number in numbers])


def field_value(metadata: str | None, field: str) -> float | None:
    """The finite number in a field of metadata (a JSON text), also one spelled as text; None if there is none."""
    value = json.loads(metadata).get(field) if metadata else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
