"""Rows that hold no document: counted by reason, a few kept to look at, fatal when a file has too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypedDict

from ground.errors import UserError
from pipelines.readers.config import SourceReading
from pipelines.readers.values import TooDeepError, canonical_text, whole_characters

_EXCERPT_CHARACTERS = 500
_SAMPLES = 5  # per file and reason: enough to see a pattern
_JUDGED_ROWS = 100  # below it one bad row would be more than the default share


class Reject(TypedDict):
    """One row that holds no document."""

    file: str
    position: int
    """Byte at which a JSON row begins in the uncompressed file, else the number of the row or the byte of the record."""
    reason: str
    """``malformed_json``, ``missing_text``, ``malformed_messages``, ``too_long``, ``nested_too_deep``, ``malformed_record``
    or ``missing_column``."""
    excerpt: str
    """Its first 500 characters, or what is wrong with it."""


class Rejects:
    """What was found in one split, or in the sum of splits."""

    def __init__(self) -> None:
        self.rows = 0
        """Rows read, good and bad; blank lines and WARC records that are no page do not count."""
        self.counts: Counter[str] = Counter()
        """Rejected rows by reason."""
        self.samples: list[Reject] = []
        """The first rejected rows of each file and reason, by position."""
        self._kept: Counter[tuple[str, str]] = Counter()

    def add(self, reason: str, file: str, position: int, row: object = "", *, rows: int = 1) -> None:
        """Count a rejected row, and keep it if it is among the first of its reason. Rows come in order of position.

        Args:
            row: what to show of it: its bytes, its text, or its value.
        """
        self.rows += rows
        self.counts[reason] += rows
        if self._kept[file, reason] < _SAMPLES:
            self._kept[file, reason] += 1
            excerpt = _excerpt(row)
            self.samples.append({"file": file, "position": position, "reason": reason, "excerpt": excerpt})


def _excerpt(row: object) -> str:
    if isinstance(row, bytes):
        return row[: 4 * _EXCERPT_CHARACTERS].decode("utf-8", "replace")[:_EXCERPT_CHARACTERS]
    if isinstance(row, str):
        return whole_characters(row[:_EXCERPT_CHARACTERS])
    try:
        return canonical_text(row)[:_EXCERPT_CHARACTERS]
    except TooDeepError:
        return "(nested too deep to show)"


def first_samples(samples: Iterable[Reject]) -> list[Reject]:
    """The first few rejected rows of each file and reason, the same for every way the files were cut."""
    ordered = sorted(samples, key=lambda sample: (sample["file"], sample["position"], sample["reason"]))
    kept: Counter[tuple[str, str]] = Counter()
    chosen = []
    for sample in ordered:
        kept[sample["file"], sample["reason"]] += 1
        if kept[sample["file"], sample["reason"]] <= _SAMPLES:
            chosen.append(sample)
    return chosen


def require_wellformed(file: str, counts: Mapping[str, int], rows: int, source: SourceReading, *, field: str) -> None:
    """Refuse a file too many of whose rows hold no document.

    Args:
        counts: rejected rows of the whole file by reason, summed over its splits.
        rows: all rows of the file.
        field: recipe field of the source (``sources.<name>``), for the error.

    Raises:
        UserError: the file has 100 rows or more, and more than ``source.max_malformed_share`` of them were rejected.
    """
    rejected = sum(counts.values())
    if rows < _JUDGED_ROWS or rejected <= source.max_malformed_share * rows:
        return
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items()) if count)
    raise UserError(
        f"{field}.max_malformed_share",
        f"{rejected:,} of {rows:,} rows of {file} hold no document ({reasons}), more than {source.max_malformed_share:.2%}",
        "check the source's format and fields, or raise the share if the file is known to be broken",
    )
