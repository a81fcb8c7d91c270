"""Lines and pages that C4 leaves out (Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 2.2).

A repair that removes lines, then a filter that looks at what is left, in the order of datatrove and of the C4 code: a line
with ``lorem ipsum`` or a brace condemns the page only if it would not have been removed for its end or its words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.filters.batch import FilterBatch, first_reasons
from pipelines.filters.config import C4
from pipelines.filters.web_signs import hashes_of
from pipelines.words import Offsets

_TERMINAL = (".", "?", "!", '"', "'")
_ELLIPSIS = "..."
_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_LOREM, _JAVASCRIPT, _BRACE = "lorem ipsum", "javascript", "{"
_POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
_SENTENCE_ENDS = hashes_of(". ! ? 。 ！ ？ ． ｡ । ؟ ۔ ‽")


@dataclass(frozen=True, slots=True)
class C4Lines:
    """Keeps the lines that C4 keeps, without white space at their ends and without marks of citation."""

    limits: C4
    name: str = "c4_lines"

    def repair(self, texts: Sequence[str]) -> list[str]:
        return [self._repair(text) for text in texts]

    def _repair(self, text: str) -> str:
        limits = self.limits
        lower = text.lower()
        # Hardly any page holds these, so that most lines need not be searched for them.
        has_javascript = limits.drop_javascript_lines and _JAVASCRIPT in lower
        has_policy = limits.drop_policy_lines and any(policy in lower for policy in _POLICIES)
        has_citation = limits.remove_citations and "[" in text
        too_long = re.compile(rf"\S{{{limits.max_word_characters + 1}}}")
        has_long_word = too_long.search(text) is not None
        least = limits.min_words_per_line
        kept = []
        for raw in text.splitlines():
            line = raw.strip()
            if has_long_word and too_long.search(line):
                continue
            words = len(line.split(None, least))
            if has_citation:
                line = _CITATION.sub("", line)
            if limits.terminal_punctuation and (not line.endswith(_TERMINAL) or line.endswith(_ELLIPSIS)):
                continue
            if words < least:
                continue
            if (has_javascript or has_policy) and _is_notice(line.lower(), limits):
                continue
            kept.append(line)
        return "\n".join(kept).strip()


def _is_notice(lower: str, limits: C4) -> bool:
    if limits.drop_lorem_ipsum and _LOREM in lower:
        return False  # the whole page goes
    if limits.drop_javascript_lines and _JAVASCRIPT in lower:
        return True
    if limits.drop_braces and _BRACE in lower:
        return False
    return limits.drop_policy_lines and any(policy in lower for policy in _POLICIES)


@dataclass(frozen=True, slots=True)
class C4Filter:
    """Drops pages of fewer than so many sentences, with ``lorem ipsum``, or with a brace, which marks code."""

    limits: C4
    name: str = "c4"

    def reasons(self, batch: FilterBatch) -> Sequence[str]:
        limits = self.limits
        lorem = [limits.drop_lorem_ipsum and _LOREM in text.lower() for text in batch.texts]
        braces = [limits.drop_braces and _BRACE in text for text in batch.texts]
        rules = [("lorem_ipsum", lorem), ("braces", braces), ("few_sentences", self._has_few_sentences(batch))]
        return first_reasons(len(batch), [(reason, np.array(holds)) for reason, holds in rules])

    def _has_few_sentences(self, batch: FilterBatch) -> list[bool]:
        least = self.limits.min_sentences
        few = [text.count("\n") + 1 < least or not text for text in batch.texts]  # a line is a sentence or more
        suspects = [index for index, is_suspect in enumerate(few) if is_suspect]
        if suspects:
            sentences = count_sentences(FilterBatch([batch.texts[index] for index in suspects]))
            for index, number in zip(suspects, sentences.tolist(), strict=True):
                few[index] = number < least
        return few


def count_sentences(batch: FilterBatch) -> Offsets:
    """Sentences of each document: a line begins one, and so does any word behind a full stop within it."""
    words, lines = batch.web_words, batch.lines
    line = np.searchsorted(lines.starts, words.starts, side="right") - 1
    ended = np.concatenate([[0], np.cumsum(np.isin(words.hashes, _SENTENCE_ENDS))])
    plain = np.flatnonzero(~words.is_punctuation)
    begins = np.zeros(len(plain), dtype=np.bool_)
    begins[1:] = (ended[plain[1:]] > ended[plain[:-1]]) & (line[plain[1:]] == line[plain[:-1]])
    return batch.count(lines.documents[~lines.is_blank]) + batch.count(words.documents[plain[begins]])
