"""Quality heuristics of Gopher (Rae et al. 2021, "Scaling Language Models", Appendix A1.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.filters.batch import FilterBatch, Mask, Rule, first_reasons, share
from pipelines.filters.config import GopherQuality
from pipelines.filters.web_signs import hashes_of
from pipelines.words import Offsets

# The paper's list: documents of English prose hold at least two of them. Case counts, as in datatrove.
_STOP_WORDS = hashes_of("the be to of and that have with")
_BULLETS = ("-", "•")
_ELLIPSES = ("...", "…")


@dataclass(frozen=True, slots=True)
class GopherQualityFilter:
    """Drops by number and length of words, symbols, bullets, ellipses, words with a letter, and stop words."""

    limits: GopherQuality
    name: str = "gopher_quality"

    def reasons(self, batch: FilterBatch) -> Sequence[str]:
        return first_reasons(len(batch), self._rules(batch))

    def _rules(self, batch: FilterBatch) -> Iterator[Rule]:
        limits, words = self.limits, batch.web_words
        plain = ~words.is_punctuation
        documents = words.documents
        number = batch.count(documents[plain])
        yield "few_words", number < limits.min_words
        yield "many_words", number > limits.max_words
        lengths = batch.lengths(words.starts[plain], words.ends[plain])
        mean = share(batch.count(documents[plain], lengths), number)
        yield "short_words", mean < limits.min_word_length
        yield "long_words", mean > limits.max_word_length
        hashes = np.array([text.count("#") for text in batch.texts])
        yield "many_hashes", share(hashes, words.counts) > limits.max_symbols
        ellipses = np.array([sum(map(text.count, _ELLIPSES)) for text in batch.texts])
        yield "many_ellipses", share(ellipses, words.counts) > limits.max_symbols
        lines, bullets, trails = _lines(batch)
        yield "bullets", share(bullets, lines) > limits.max_bullet_lines
        yield "ellipsis_lines", share(trails, lines) > limits.max_ellipsis_lines
        with_letter = batch.count(documents[words.has_letter])
        yield "few_words_with_letters", share(with_letter, words.counts) < limits.min_words_with_letters
        stop_words = np.zeros(len(batch), dtype=np.int64)
        for word in _STOP_WORDS:
            stop_words += batch.count(documents[words.hashes == word]) > 0
        yield "few_stop_words", stop_words < limits.min_stop_words


def _lines(batch: FilterBatch) -> tuple[Offsets, Offsets, Offsets]:
    """Lines of each document, those that begin with a bullet, and those that end with an ellipsis."""
    lines = batch.lines
    last = np.append(lines.documents[1:] != lines.documents[:-1], True)
    real = ~(last & (lines.ends == lines.starts))  # a newline at the end of a text begins no line
    seen = ~lines.is_blank
    first, stop, documents = lines.first[seen], lines.last[seen], lines.documents[seen]
    bullets = _begins(batch, first, _BULLETS)
    trails = np.zeros(len(first), dtype=np.bool_)
    for ellipsis in _ELLIPSES:
        trails |= _begins(batch, np.maximum(stop - len(ellipsis.encode()), first), (ellipsis,))
    return batch.count(lines.documents[real]), batch.count(documents[bullets]), batch.count(documents[trails])


def _begins(batch: FilterBatch, at: Offsets, candidates: tuple[str, ...]) -> Mask:
    """Whether one of the candidates stands at each position."""
    found = np.zeros(len(at), dtype=np.bool_)
    for candidate in candidates:
        same = np.ones(len(at), dtype=np.bool_)
        for k, byte in enumerate(candidate.encode()):
            same &= batch.data[np.minimum(at + k, len(batch.data) - 1)] == byte
        found |= same
    return found
