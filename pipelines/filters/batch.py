"""What filters ask of a batch of texts: its chunks, its lines and its words, each computed once for all documents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipelines.filters.web_words import WebWords, find_web_words
from pipelines.words import Offsets, TextBatch, segment_hashes, sort_hashes, visible_bytes

NEWLINE = 0x0A
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rule = tuple[str, Mask]


@dataclass(frozen=True)
class Lines:
    """The lines of a batch, blank ones too: those of ``text.split("\\n")`` for every document."""

    starts: Offsets
    """[lines] first byte in ``TextBatch.data``."""
    ends: Offsets
    """[lines] the newline after it."""
    first: Offsets
    """[lines] first byte that is no white space; ``ends`` for a blank line."""
    last: Offsets
    """[lines] one past the last byte that is no white space; ``ends`` for a blank line."""
    documents: Offsets
    """[lines] the document each line belongs to."""

    @property
    def is_blank(self) -> Mask:
        """[lines] whether there is nothing to see."""
        blank: Mask = self.first == self.ends
        return blank


class FilterBatch(TextBatch):
    """Texts as one buffer of UTF-8 with the views that more than one filter needs."""

    @cached_property
    def is_ascii(self) -> bool:
        """Whether every character is one byte."""
        return len(self.data) == 0 or int(self.data.max()) < 0x80

    @cached_property
    def visible(self) -> Mask:
        """[bytes] whether a byte belongs to a character that is no white space."""
        return visible_bytes(self.data)

    @cached_property
    def chunks(self) -> tuple[Offsets, Offsets]:
        """First byte of every run without white space, and one past its last."""
        edges = np.flatnonzero(self.visible[1:] != self.visible[:-1]) + 1
        if len(self.data) and self.visible[0]:
            edges = np.concatenate([[0], edges])
        return edges[0::2], edges[1::2]  # a newline stands at the end, so that every run ends

    @cached_property
    def lines(self) -> Lines:
        """Every line of every document."""
        ends = np.flatnonzero(self.data == NEWLINE)
        starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
        chunk_starts, chunk_ends = self.chunks
        after = np.searchsorted(chunk_starts, ends)
        before = np.concatenate([[0], after[:-1]])[: len(ends)]
        is_blank = after == before
        first, last = ends.copy(), ends.copy()
        first[~is_blank] = chunk_starts[before[~is_blank]]
        last[~is_blank] = chunk_ends[after[~is_blank] - 1]
        return Lines(starts, ends, first, last, np.searchsorted(self.offsets, starts, side="right") - 1)

    @cached_property
    def web_words(self) -> WebWords:
        """Words as the published web filters count them."""
        return find_web_words(self.data, self.offsets, self.visible, self.chunks)

    @property
    def has_words(self) -> bool:
        """Whether ``web_words`` has been computed."""
        return "web_words" in self.__dict__

    @cached_property
    def _characters_before(self) -> Offsets:
        before = np.zeros(len(self.data) + 1, dtype=np.int64)
        np.cumsum((self.data & 0xC0) != 0x80, out=before[1:])
        return before

    def lengths(self, starts: Offsets, ends: Offsets) -> Offsets:
        """Characters in each ``data[start:end]``."""
        return ends - starts if self.is_ascii else self._characters_before[ends] - self._characters_before[starts]

    def count(self, documents: Offsets, weights: Offsets | None = None) -> Offsets:
        """How often each document occurs in ``documents``, or the sum of the weights there."""
        return np.bincount(documents, weights, minlength=len(self)).astype(np.int64)

    def repeated(self, starts: Offsets, ends: Offsets, documents: Offsets) -> tuple[Offsets, Offsets]:
        """Segments that stood in the same document before: their number and their characters, by document."""
        hashes = segment_hashes(self.data, starts, ends)
        order = sort_hashes(hashes)
        again = (hashes[order][1:] == hashes[order][:-1]) & (documents[order][1:] == documents[order][:-1])
        repeats = order[1:][again]
        where = documents[repeats]
        return self.count(where), self.count(where, self.lengths(starts[repeats], ends[repeats]))


def share(part: NDArray[np.number], whole: NDArray[np.number]) -> Floats:
    """``part / whole``; 0 where there is no whole."""
    shares: Floats = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
    return shares


def first_reasons(size: int, rules: Iterable[Rule]) -> list[str]:
    """For every document the reason of the first rule that is true for it, or "".

    Args:
        size: number of documents.
        rules: reason and, of shape [documents], where it holds.
    """
    reasons = [""] * size
    for reason, holds in rules:
        for index in np.flatnonzero(holds):
            reasons[index] = reasons[index] or reason
    return reasons
