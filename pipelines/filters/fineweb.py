"""Quality heuristics of FineWeb (Penedo et al. 2024, "The FineWeb Datasets", section 3.5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.filters.batch import FilterBatch, Mask, Rule, first_reasons, share
from pipelines.filters.config import FineWeb
from pipelines.words import Offsets

# Unicode's property Sentence_Terminal, without scripts that hardly any corpus holds.
TERMINAL = frozenset(".!?‼‽⁇⁈⁉。．！？｡﹒﹖﹗։؟۔।॥።၊။។៕᠃᠉⸮")


@dataclass(frozen=True, slots=True)
class FineWebFilter:
    """Drops by lines without terminal punctuation, short lines, repeated lines, and newlines per word."""

    limits: FineWeb
    name: str = "fineweb"

    def reasons(self, batch: FilterBatch) -> Sequence[str]:
        return first_reasons(len(batch), self._rules(batch))

    def _rules(self, batch: FilterBatch) -> Iterator[Rule]:
        limits, lines = self.limits, batch.lines
        seen = ~lines.is_blank
        starts, ends, documents = lines.starts[seen], lines.ends[seen], lines.documents[seen]
        number = batch.count(documents)
        yield "no_lines", number == 0
        terminated = share(batch.count(documents[_is_terminal(batch, ends)]), number)
        yield "few_terminated_lines", terminated < limits.min_terminated_lines
        short = batch.lengths(starts, ends) <= limits.short_line_characters
        yield "short_lines", share(batch.count(documents[short]), number) > limits.max_short_lines
        newlines = batch.count(lines.documents) - 1
        _, repeated = batch.repeated(starts, ends, documents)
        yield "duplicate_line_text", share(repeated, batch.characters - newlines) > limits.max_duplicate_line_characters
        yield "list", self._is_list(batch, newlines)

    def _is_list(self, batch: FilterBatch, newlines: Offsets) -> Mask:
        chunks = np.diff(np.searchsorted(batch.chunks[0], batch.offsets))
        # Every chunk between white space holds a word, so that few newlines per chunk are few per word.
        many: Mask = share(newlines, chunks) > self.limits.max_newlines
        suspects = np.flatnonzero(many)
        if len(suspects):
            words = FilterBatch([batch.texts[i] for i in suspects]).web_words.counts
            many[suspects] = share(newlines[suspects], words) > self.limits.max_newlines
        return many


def _is_terminal(batch: FilterBatch, ends: Offsets) -> Mask:
    """Whether the character before each position ends a sentence."""
    last = batch.data[np.maximum(ends - 1, 0)]
    terminal = np.isin(last, np.frombuffer(b".!?", dtype=np.uint8))
    for index in np.flatnonzero(last >= 0x80).tolist():
        end = int(ends[index])
        tail = batch.data[max(end - 4, 0) : end].tobytes().decode(errors="ignore")
        terminal[index] = tail[-1:] in TERMINAL
    return terminal
