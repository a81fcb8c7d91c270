"""Gopher, C4 and FineWeb: the same decisions as the definitions, and what each limit is for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.filters.batch import FilterBatch
from pipelines.filters.c4 import C4Filter, C4Lines, count_sentences
from pipelines.filters.config import C4, FineWeb, GopherQuality, GopherRepetition
from pipelines.filters.fineweb import FineWebFilter
from pipelines.filters.gopher_quality import GopherQualityFilter
from pipelines.filters.gopher_repetition import GopherRepetitionFilter
from pipelines.filters.ngrams import duplicate_characters, repeated_ngrams, top_characters
from pipelines.words import mix
from tests.pipelines.filters import oracle

PIECES = [
    "the",
    "pain",
    "a",
    "of",
    "12",
    "é",
    "don't",
    "。",
    ".",
    "...",
    "…",
    "-",
    "•",
    "#",
    " ",
    " ",
    "\n",
    "\n",
    "\n\n",
    "\n \n",
]
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=40).map(" ".join) | st.lists(
    st.sampled_from(PIECES), min_size=1, max_size=40
).map("".join)
VISIBLE = TEXTS.filter(lambda text: bool(text.strip()))
SHARES = st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 0.9, 1.0])


@given(
    st.lists(st.lists(st.integers(0, 3), max_size=30), min_size=1, max_size=3),
    st.integers(1, 5),
    st.lists(st.integers(1, 9), min_size=4, max_size=4),
)
def test_ngrams_are_counted_as_by_a_reader(documents: list[list[int]], n: int, sizes: list[int]) -> None:
    names = [[chr(97 + word) * sizes[word] for word in words] for words in documents]
    flat = [word for words in documents for word in words]
    offsets = np.cumsum([0, *map(len, documents)])
    ends = np.cumsum([0, *(sizes[word] for word in flat)])
    *_, repeats = repeated_ngrams(mix(np.array(flat, dtype=np.uint64)), offsets, [1, n])
    assert top_characters(repeats, offsets, ends).tolist() == [oracle.top_characters(words, n) for words in names]
    found = duplicate_characters(repeats, len(documents), ends, np.zeros(len(documents)))
    assert found.tolist() == [oracle.duplicate_characters(words, n) for words in names]


@given(VISIBLE, SHARES, SHARES)
def test_gopher_repetition_follows_its_definition(text: str, share: float, other: float) -> None:
    grams = dict.fromkeys(range(2, 5), other)
    for limits in (
        GopherRepetition(),
        GopherRepetition(top_ngrams=grams, duplicate_ngrams={5: other, 6: share}),
        GopherRepetition(duplicate_lines=share, duplicate_paragraphs=1.0, top_ngrams={}, duplicate_ngrams={}),
        GopherRepetition(duplicate_paragraphs=share, duplicate_lines=1.0, duplicate_paragraph_characters=other),
        GopherRepetition(
            duplicate_lines=1.0, duplicate_line_characters=share, top_ngrams={}, duplicate_ngrams={2: 0.1}
        ),
    ):
        expected = oracle.gopher_repetition(text, limits)
        assert GopherRepetitionFilter(limits).reasons(FilterBatch([text])) == [expected]


@given(VISIBLE, SHARES, st.integers(0, 9))
def test_gopher_quality_follows_its_definition(text: str, share: float, number: int) -> None:
    loose = {"min_words": 0, "min_word_length": 0, "min_stop_words": 0, "min_words_with_letters": 0.0}
    for limits in (
        GopherQuality(),
        GopherQuality(min_words=number),
        GopherQuality.model_validate(loose | {"max_symbols": share}),
        GopherQuality.model_validate(loose | {"max_symbols": 9, "max_bullet_lines": share}),
        GopherQuality.model_validate(loose | {"max_symbols": 9, "max_ellipsis_lines": share}),
        GopherQuality.model_validate(loose | {"max_symbols": 9, "min_words_with_letters": share}),
        GopherQuality.model_validate(loose | {"max_symbols": 9, "min_stop_words": number % 4}),
    ):
        expected = oracle.gopher_quality(text, limits)
        assert GopherQualityFilter(limits).reasons(FilterBatch([text])) == [expected]


@given(VISIBLE, SHARES, SHARES)
def test_fineweb_follows_its_definition(text: str, share: float, other: float) -> None:
    for limits in (
        FineWeb(),
        FineWeb(min_terminated_lines=share, max_short_lines=1.0, max_duplicate_line_characters=other),
        FineWeb(min_terminated_lines=0.0, max_short_lines=share, short_line_characters=4),
        FineWeb(min_terminated_lines=0.0, max_short_lines=1.0, max_duplicate_line_characters=1.0, max_newlines=share),
    ):
        assert FineWebFilter(limits).reasons(FilterBatch([text])) == [oracle.fineweb(text, limits)]


FILTERS = [
    GopherRepetitionFilter(GopherRepetition()),
    GopherQualityFilter(GopherQuality(min_words=3)),
    FineWebFilter(FineWeb()),
    C4Filter(C4(min_sentences=2)),
]


@pytest.mark.parametrize("keep", FILTERS, ids=lambda keep: keep.name)
@given(texts=st.lists(TEXTS | st.text(), min_size=1, max_size=5))
def test_neighbours_in_a_batch_change_nothing(keep: GopherQualityFilter, texts: list[str]) -> None:
    together = list(keep.reasons(FilterBatch(texts)))
    assert together == [reason for text in texts for reason in keep.reasons(FilterBatch([text]))]


def test_c4_keeps_lines_that_end_like_sentences() -> None:
    page = "Home | About\nThe drug was safe [12].\nToo short.\nIt works...\nWe use cookies here and there.\nIs this all of it?"
    kept = "The drug was safe .\nIs this all of it?"
    assert C4Lines(C4()).repair([page]) == [kept]
    everything = C4(terminal_punctuation=False, min_words_per_line=0, remove_citations=False, drop_policy_lines=False)
    assert C4Lines(everything).repair([page]) == [page]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Lorem ipsum and javascript in one line here.", "lorem_ipsum"),
        ("This line has { in it and an end.", "braces"),
        ("This line has { in it and no end", "few_sentences"),
        ("Enable javascript to see { this page.", "few_sentences"),
        ("One. Two two. Three! Four? Five it is.", ""),
        ("One. Two two. Three! Dr. Four is four.", "few_sentences"),
        ("", "few_sentences"),
    ],
)
def test_c4_drops_a_page_only_for_lines_that_it_would_keep(text: str, reason: str) -> None:
    repaired = C4Lines(C4()).repair([text])
    assert C4Filter(C4()).reasons(FilterBatch(repaired)) == [reason]


def test_sentences_end_at_full_stops_and_at_lines() -> None:
    texts = ["Fever. Pain? None!", "Dr. Who came.", "A heading\nand a line", "3.5 mg of it.", ""]
    assert count_sentences(FilterBatch(texts)).tolist() == [3, 1, 2, 1, 0]
