"""Filters: which documents may stay, each in a file of its own. They read the text only and keep no state."""

from __future__ import annotations

from collections.abc import Iterable

from pipelines.config import FilterConfig
from pipelines.filters.base import Filter
from pipelines.filters.encoding import EncodingFilter
from pipelines.filters.length import LengthFilter
from pipelines.filters.letters import LetterFilter
from pipelines.filters.repetition import RepeatedLinesFilter

__all__ = ["Filter", "build_filters", "first_reason"]


def build_filters(config: FilterConfig) -> list[Filter]:
    """The filters of a configuration, cheapest first: a document is counted under the first that drops it."""
    return [
        LengthFilter(config.min_characters, config.max_characters),
        EncodingFilter(config.max_replacement_share),
        LetterFilter(config.min_letter_share),
        RepeatedLinesFilter(config.max_line_repetition),
    ]


def first_reason(filters: Iterable[Filter], text: str) -> str | None:
    """Reason of the first filter that drops ``text``, or None when all keep it."""
    for keep_or_reason in filters:
        if (reason := keep_or_reason(text)) is not None:
            return reason
    return None
