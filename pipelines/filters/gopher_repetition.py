"""Repetition within a document (Gopher: Rae et al. 2021, "Scaling Language Models", Appendix A1.1, Table A1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.filters.batch import FilterBatch, Rule, first_reasons, share
from pipelines.filters.config import GopherRepetition
from pipelines.filters.ngrams import duplicate_characters, repeated_ngrams, top_characters
from pipelines.words import Offsets


@dataclass(frozen=True, slots=True)
class GopherRepetitionFilter:
    """Drops by the shares of repeated paragraphs, lines and n-grams, counted as datatrove counts them."""

    limits: GopherRepetition
    name: str = "gopher_repetition"

    def reasons(self, batch: FilterBatch) -> Sequence[str]:
        return first_reasons(len(batch), [*self._segments(batch), *self._ngrams(batch)])

    def _segments(self, batch: FilterBatch) -> Iterator[Rule]:
        limits, characters = self.limits, batch.characters
        number, (repeats, repeated) = _paragraphs(batch)
        yield "duplicate_paragraphs", share(repeats, number) > limits.duplicate_paragraphs
        yield "duplicate_paragraph_characters", share(repeated, characters) > limits.duplicate_paragraph_characters
        number, (repeats, repeated) = _lines(batch)
        yield "duplicate_lines", share(repeats, number) > limits.duplicate_lines
        yield "duplicate_line_characters", share(repeated, characters) > limits.duplicate_line_characters

    def _ngrams(self, batch: FilterBatch) -> Iterator[Rule]:
        top, duplicate = self.limits.top_ngrams, self.limits.duplicate_ngrams
        words, characters = batch.web_words, batch.characters
        is_judged = words.counts >= self.limits.min_words
        ends = np.concatenate([[0], np.cumsum(batch.lengths(words.starts, words.ends))])
        for repeats in repeated_ngrams(words.hashes, words.offsets, [*top, *duplicate]):
            n = repeats.n
            if n in top:
                frequent = top_characters(repeats, words.offsets, ends)
                yield f"top_{n}_gram", is_judged & (share(frequent, characters) > top[n])
            if n in duplicate:
                repeated = duplicate_characters(repeats, len(batch), ends, duplicate[n] * characters)
                yield f"duplicate_{n}_grams", is_judged & (share(repeated, characters) > duplicate[n])


def _lines(batch: FilterBatch) -> tuple[Offsets, tuple[Offsets, Offsets]]:
    """Number of lines, runs of newlines parting them, and the repeated ones; a newline at an edge has an empty line."""
    lines = batch.lines
    filled = lines.ends > lines.starts
    starts, ends, documents = lines.starts[filled], lines.ends[filled], lines.documents[filled]
    at_start = np.array([text.startswith("\n") for text in batch.texts], dtype=np.int64)
    at_end = np.array([text.endswith("\n") for text in batch.texts], dtype=np.int64)
    repeats, repeated = batch.repeated(starts, ends, documents)
    return batch.count(documents) + at_start + at_end, (repeats + at_start * at_end, repeated)


def _paragraphs(batch: FilterBatch) -> tuple[Offsets, tuple[Offsets, Offsets]]:
    """Number of paragraphs, which blank lines without even a space part, and the repeated ones."""
    lines = batch.lines
    is_empty = lines.ends == lines.starts
    seen = ~lines.is_blank
    head, tail = np.full(len(batch), len(batch.data)), np.zeros(len(batch), dtype=np.int64)
    np.minimum.at(head, lines.documents[seen], lines.first[seen])
    np.maximum.at(tail, lines.documents[seen], lines.last[seen])
    # Lines before the first and behind the last visible character do not count.
    inner = ~is_empty & (lines.ends > head[lines.documents]) & (lines.starts < tail[lines.documents])
    documents, at = lines.documents[inner], np.flatnonzero(inner)
    begins = np.ones(len(at), dtype=np.bool_)
    begins[1:] = (at[1:] != at[:-1] + 1) | (documents[1:] != documents[:-1])
    stops = np.append(begins[1:], np.ones(min(len(at), 1), dtype=np.bool_))
    starts = np.maximum(lines.starts[at[begins]], head[documents[begins]])
    ends = np.minimum(lines.ends[at[stops]], tail[documents[stops]])
    return batch.count(documents[begins]), batch.repeated(starts, ends, documents[begins])
