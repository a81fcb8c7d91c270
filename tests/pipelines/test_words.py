"""Words as arrays: the same words that a loop over characters finds, whatever stands beside a document in its batch."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.words import TextBatch, find_words, mix, ngram_hashes, segment_hashes, sort_hashes, visible_bytes

SPACES = {*map(chr, range(33)), "\x7f", "\x85", "\xa0", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"}
SPACES |= {*map(chr, range(0x2000, 0x200B))}
CHARACTERS = "abZé_09'’.,;-(\"“”–…\u00b7\u00aa\u00b5×° \n\t\xa0\u2003\u3000。、中文かなカ漢αβЖ한😀\u0301"
TEXTS = st.text(st.sampled_from(CHARACTERS)) | st.text()


def kind(character: str) -> str:
    """What a character is, read off the module's description."""
    code = ord(character)
    if character in SPACES:
        return "space"
    if code < 0x80:
        return "letter" if character.isalpha() or character == "_" else "digit" if character.isdigit() else "sign"
    if 0x80 <= code < 0xC0:
        return "letter" if character in "ªµº" else "sign"
    if 0x2000 <= code < 0x2C00 or 0x3000 <= code < 0x3040:
        return "sign"
    return "ideograph" if 0x3040 <= code < 0xA000 else "letter"


def words_of(text: str) -> list[str]:
    """The words of one text, by a loop over its characters."""
    kinds = [kind(character) for character in text]
    inner = list(kinds)
    for i in range(1, len(text) - 1):
        around = (kinds[i - 1], kinds[i + 1])
        if (text[i] in "'’" and around == ("letter", "letter")) or (text[i] in ".," and around == ("digit", "digit")):
            inner[i] = around[0]
    words: list[str] = []
    for i, character in enumerate(text):
        joins = i > 0 and inner[i] in ("letter", "digit") and inner[i - 1] in ("letter", "digit")
        if inner[i] == "space":
            continue
        if joins:
            words[-1] += character
        else:
            words.append(character)
    return words


def found_words(batch: TextBatch) -> list[list[str]]:
    words, data = batch.words, batch.data.tobytes()
    texts = [data[a:b].decode() for a, b in zip(words.starts, words.ends, strict=True)]
    return [texts[a:b] for a, b in zip(words.offsets, words.offsets[1:], strict=False)]


@given(st.lists(TEXTS, max_size=4))
def test_words_are_those_of_a_loop_over_characters(texts: list[str]) -> None:
    assert found_words(TextBatch(texts)) == [words_of(text) for text in texts]


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_what_a_word_is_like(texts: list[str]) -> None:
    batch = TextBatch(texts)
    words, expected = batch.words, [word for text in texts for word in words_of(text)]
    assert words.is_sign.tolist() == [len(word) == 1 and kind(word) == "sign" for word in expected]
    numbers = [i for i, text in enumerate(texts) for _ in words_of(text)]
    assert words.documents.tolist() == numbers
    same = {
        (a == b, c == d)
        for a, c in zip(expected, words.hashes, strict=True)
        for b, d in zip(expected, words.hashes, strict=True)
    }
    assert same <= {(True, True), (False, False)}


@given(st.lists(TEXTS, max_size=3))
def test_plain_words_leave_out_signs_and_case(texts: list[str]) -> None:
    lower = [
        [word for word in words_of(text.lower()) if not (len(word) == 1 and kind(word) == "sign")] for text in texts
    ]
    words = TextBatch(texts).plain_words
    assert np.diff(words.offsets).tolist() == [len(found) for found in lower]
    again = TextBatch([" ".join(found) for found in lower]).words
    assert sorted(words.hashes.tolist()) == sorted(again.hashes.tolist())


@given(st.lists(TEXTS, min_size=1, max_size=4), st.integers(0, 3))
def test_hashes_do_not_depend_on_the_batch(texts: list[str], index: int) -> None:
    index %= len(texts)
    words, alone = TextBatch(texts).words, TextBatch([texts[index]]).words
    start, end = words.offsets[index], words.offsets[index + 1]
    assert words.hashes[start:end].tolist() == alone.hashes.tolist()


@given(st.lists(st.integers(0, 2), max_size=12), st.lists(st.integers(0, 12), max_size=3), st.integers(1, 4))
def test_ngrams_lie_within_one_document(words: list[int], cuts: list[int], n: int) -> None:
    hashes = mix(np.array(words, dtype=np.uint64))
    offsets = np.array(sorted({0, len(words), *(cut for cut in cuts if cut <= len(words))}))
    combined, whole = ngram_hashes(hashes, offsets, n)
    ends = [next(int(end) for end in offsets if end > i) for i in range(len(words))]
    assert whole.tolist() == [i + n <= end for i, end in enumerate(ends)]
    grams = {i: tuple(words[i : i + n]) for i in range(len(words)) if whole[i]}
    for i, gram in grams.items():
        for j, other in grams.items():
            assert (gram == other) == (combined[i] == combined[j])


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5))
def test_segments_hash_alike_wherever_they_stand(parts: list[bytes]) -> None:
    data = np.frombuffer(b"".join(parts), dtype=np.uint8)
    ends = np.cumsum([len(part) for part in parts])
    starts = ends - [len(part) for part in parts]
    for part, value in zip(parts, segment_hashes(data, starts, ends), strict=True):
        alone = np.frombuffer(part, dtype=np.uint8)
        assert segment_hashes(alone, np.array([0]), np.array([len(part)]))[0] == value


def test_hashes_stay_what_they_were() -> None:
    # MinHash signatures and contamination indices on disk hold them.
    words = find_words(np.frombuffer(b"pain " + b"x" * 70 + b"\n", dtype=np.uint8), np.array([0, 76]))
    assert words.hashes.tolist() == [14934584181513941234, 12349586182960117156]


@given(st.lists(st.sampled_from([0, 1, 5, 2**63, 2**64 - 1, 2**40, 2**40 + 1]), max_size=40))
def test_sorting_hashes_is_a_stable_argsort(values: list[int]) -> None:
    hashes = np.array(values, dtype=np.uint64)
    assert sort_hashes(hashes).tolist() == np.argsort(hashes, kind="stable").tolist()


@given(TEXTS)
def test_visible_bytes_are_those_of_characters_that_are_no_spaces(text: str) -> None:
    expected = [character not in SPACES for character in text for _ in character.encode()]
    assert visible_bytes(np.frombuffer(text.encode(), dtype=np.uint8)).tolist() == expected
