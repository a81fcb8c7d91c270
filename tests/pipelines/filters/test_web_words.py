"""Words as the published filters count them: spaCy's, on what decides their limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.filters.batch import FilterBatch
from tests.pipelines.filters.oracle import web_words

PIECES = [
    "word",
    "X",
    "é",
    "中",
    "7",
    "e.g.",
    "n't",
    "mg",
    "://",
    *".,;:!?()[]'\"’“”–—…·-~#*+=/<>^%$°±×©😀\t\n ",
    "\u2003",
    "\x00",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=25).map("".join) | st.text()


@pytest.mark.parametrize(
    "words",
    [
        # Each list is what spaCy 3.8 (blank English) makes of the words put together as below.
        "The|patient|(|aged|54|)|was|n't|given|3.5|mg|;|she|'d|refused|.",
        "p<0.05|and|1/2|of|10–20|or|95|%|CI|(|1.2|,|3.4|)|.",
        "a|well|-|known|60|-|minute|test|,|e.g.|one|of|Dr.|Who|'s|…",
        "10|mg|and|5.2|km|at|≥18|±0.5|years|.",
        "“|Quoted|”|,|he|said|—|twice|.",
        "see|https://example.org/a=b/c-d|now",
        "word|--|word|and|-5|to|U.S.|law",
        "end|...|then|more",
    ],
)
def test_words_are_those_of_a_linguistic_tokenizer(words: str) -> None:
    expected = words.split("|")
    assert web_words(_joined(expected)) == expected


def _joined(words: list[str]) -> str:
    """The words with a space between any two that spaCy does not part by its own rules."""
    text = ""
    attach_next = True
    for word in words:
        attached = word in {".", ",", ";", ")", "%", "…", "...", "'s", "'d", "n't", "”", "-", "--", "—"} or (
            word == "mg" and text.endswith("10")
        )
        text += word if attach_next or attached else f" {word}"
        attach_next = word in {"(", "“", "-", "--", "—"}
    return text


@given(TEXTS)
def test_words_hold_every_visible_character_once(text: str) -> None:
    batch = FilterBatch([text])
    words, visible = batch.web_words, batch.visible
    assert int((words.ends - words.starts).sum()) == int(visible.sum())
    assert all(visible[a:b].all() for a, b in zip(words.starts, words.ends, strict=True))
    assert (words.starts[1:] >= words.ends[:-1]).all()
    batch.data.tobytes().decode()
    for a, b in zip(words.starts, words.ends, strict=True):
        batch.data[a:b].tobytes().decode()  # no word ends within a character


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_neighbours_in_a_batch_change_no_word(texts: list[str]) -> None:
    together = FilterBatch(texts).web_words
    alone = [FilterBatch([text]).web_words for text in texts]
    assert together.counts.tolist() == [len(words.starts) for words in alone]
    for name in ("hashes", "has_letter", "is_punctuation"):
        assert getattr(together, name).tolist() == [value for words in alone for value in getattr(words, name).tolist()]


def test_the_first_document_of_a_batch_is_read_like_any_other() -> None:
    texts = ["I'm ill", ".5 mg", "...so", "A. Smith", "'s", "-x", "n't"]
    for text in texts:
        behind = FilterBatch([".", text]).web_words
        assert FilterBatch([text]).web_words.hashes.tolist() == behind.hashes[behind.offsets[1] :].tolist()


@given(TEXTS)
def test_lines_are_those_of_split(text: str) -> None:
    lines, data = FilterBatch([text]).lines, FilterBatch([text]).data.tobytes()
    found = [data[a:b].decode() for a, b in zip(lines.starts, lines.ends, strict=True)]
    assert found == text.split("\n")
    stripped = [data[a:b].decode() for a, b in zip(lines.first, lines.last, strict=True)]
    assert [part == "" for part in stripped] == lines.is_blank.tolist()
    assert all(part in line for part, line in zip(stripped, found, strict=True))


def test_punctuation_and_letters_are_told_apart() -> None:
    words = FilterBatch(["Pain – 7 ° é ?! $5 ± x1"]).web_words
    assert words.has_letter.tolist() == [True, False, False, False, True, False, False, False, False, False, True]
    assert words.is_punctuation.tolist() == [False, True, False, False, False, True, True, True, False, False, False]
