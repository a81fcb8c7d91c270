"""What a filter is: a name and a call that returns the reason to drop a document."""

from __future__ import annotations

from typing import Protocol


class Filter(Protocol):
    """Decides about one document at a time, from its text alone, so that any worker gives the same answer.

    A new filter is one small file with a frozen dataclass that has these two members; add it to ``build_filters``.
    """

    @property
    def name(self) -> str:
        """Short name of the filter."""

    def __call__(self, text: str) -> str | None:
        """The reason to drop ``text`` (``lower_snake_case``, the key under which it is counted), or None to keep it."""
