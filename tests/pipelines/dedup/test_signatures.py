"""Content hashes, shingles and MinHash signatures: what changes them and what does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ground.errors import CorruptError
from ground.files import digest_bytes
from pipelines.dedup import DedupConfig, FuzzyConfig, SignatureWriter
from pipelines.dedup.signatures import check_signatures, content_hash, estimate_similarity, minhash, shingles
from pipelines.dedup.tables import open_table
from pipelines.words import TextBatch
from tests.pipelines.dedup.corpus import Document, sign, words

TEXTS = st.lists(st.text(alphabet="ab 7.,\n\t'éü中\x1f", max_size=30), min_size=1, max_size=8)


@given(st.lists(st.text(alphabet="aB.é", min_size=1), min_size=1), st.data())
def test_white_space_does_not_change_the_content_but_all_else_does(tokens: list[str], data: st.DataObject) -> None:
    gaps = [data.draw(st.text(alphabet=" \t\n\r\v\f", min_size=1, max_size=5)) for _ in range(len(tokens) + 1)]
    spaced = "".join(gap + token for gap, token in zip(gaps, tokens, strict=False)) + gaps[-1]
    assert content_hash(spaced) == content_hash(" ".join(tokens))
    assert content_hash(spaced.swapcase()) == content_hash(" ".join(tokens).swapcase())
    assert content_hash(spaced + "x") != content_hash(spaced)


def test_case_changes_the_content_and_not_the_shingles() -> None:
    assert content_hash("One Two") != content_hash("one two")
    first, second = (shingles(TextBatch([text]).plain_words, 2)[0] for text in ("One, Two. Three!", "one two three"))
    assert first.tolist() == second.tolist()


@given(TEXTS, st.integers(1, 6))
def test_shingles_are_the_distinct_ngrams_of_a_document_alone(texts: list[str], n: int) -> None:
    hashes, offsets = shingles(TextBatch(texts).plain_words, n)
    for index, text in enumerate(texts):
        batch = TextBatch([text])
        found = batch.plain_words
        lowered = [found.hashes[i] for i in range(len(found))]
        grams = [tuple(lowered[i : i + n]) for i in range(max(len(lowered) - n + 1, min(1, len(lowered))))]
        own = hashes[offsets[index] : offsets[index + 1]].tolist()
        assert len(own) == len(grams)
        assert len(set(own)) == len(set(grams))
        assert own == shingles(batch.plain_words, n)[0].tolist()


def test_a_short_document_is_one_shingle_that_no_longer_one_has() -> None:
    hashes, offsets = shingles(TextBatch(["a b c", "a b c d e", "A, B, C.", "", "...", "a b"]).plain_words, 5)
    assert np.diff(offsets).tolist() == [1, 1, 1, 0, 0, 1]
    assert hashes[0] == hashes[2]
    assert len({*hashes.tolist()}) == 3


def test_signatures_are_the_same_everywhere() -> None:
    """They are kept in files: another machine, or a new version of the library, must make the same."""
    offsets = np.cumsum([0, 0, 1, 2, 5, 30, 100, 255, 256, 257, 1000, 5000, 70_000])
    hashes = np.arange(1, offsets[-1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    signatures = minhash(hashes, offsets, 256)
    assert signatures[1, :6].tolist() == [19, 176, 17, 204, 222, 103]
    assert digest_bytes(signatures.tobytes()) == "2a7851560b702745e05931fb7649e710"
    assert content_hash("Two words\n").hex() == "f6df10463d55dce02d41941bfeb99a3d"


@given(st.lists(st.integers(0, 40), min_size=1, max_size=600), st.integers(0, 2**32))
def test_a_signature_depends_on_the_set_of_its_own_shingles_alone(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    hashes = rng.integers(0, 2**64, offsets[-1], dtype=np.uint64)
    together = minhash(hashes, offsets, 64)
    assert together.shape == (len(sizes), 64)
    index = int(rng.integers(len(sizes)))
    own = hashes[offsets[index] : offsets[index + 1]]
    again = np.concatenate([rng.permutation(own), own[:3]])
    assert minhash(again, np.array([0, len(again)]), 64)[0].tolist() == together[index].tolist()


@pytest.mark.parametrize("union", [10, 60, 400, 3000])
@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.8])
def test_estimates_are_unbiased_and_vary_no_more_than_binomially(union: int, similarity: float) -> None:
    rng, trials, permutations = np.random.default_rng(union), 300, 256
    shared = round(union * similarity)
    single = (union - shared) // 2
    sets = []
    for _ in range(trials):
        values = rng.integers(0, 2**64, shared + 2 * single, dtype=np.uint64)
        sets += [values[: shared + single], np.concatenate([values[:shared], values[shared + single :]])]
    signatures = minhash(np.concatenate(sets), np.cumsum([0, *map(len, sets)]), permutations)
    estimates = estimate_similarity((signatures[::2] == signatures[1::2]).sum(axis=1), permutations)
    exact = shared / (shared + 2 * single)
    deviation = (exact * (1 - exact) / permutations) ** 0.5
    assert abs(estimates.mean() - exact) < 4 * deviation / trials**0.5
    assert estimates.std() < 1.15 * deviation


def test_bytes_equal_by_chance_are_taken_out() -> None:
    rng = np.random.default_rng(0)
    signatures = minhash(rng.integers(0, 2**64, 40_000, dtype=np.uint64), np.arange(0, 40_001, 50), 256)
    equal = (signatures[::2] == signatures[1::2]).sum(axis=1)
    assert 0.7 < equal.mean() < 1.3
    assert estimate_similarity(equal, 256).mean() < 0.002
    assert estimate_similarity(np.array([0, 256]), 256).tolist() == [0.0, 1.0]


def test_the_file_has_a_row_for_each_document(tmp_path: Path) -> None:
    documents = [
        Document("s", "id-1", "one two three four five six", heldout=True),
        Document("s", "id-2", " one two three  four five six"),
        Document("s", "id-3", "?!"),
    ]
    part = sign(tmp_path / "part", documents, DedupConfig())
    batch = open_table(tmp_path / "part" / "signatures.arrow")
    assert part.rows == batch.num_rows == 3
    rows = batch.to_pydict()
    assert rows["id"] == ["id-1", "id-2", "id-3"]
    assert rows["heldout"] == [1, 0, 0]
    assert rows["signed"] == [1, 1, 0]
    hashes = [f"{high:016x}{low:016x}" for high, low in zip(rows["hash_high"], rows["hash_low"], strict=True)]
    assert hashes == [document.hash for document in documents]
    assert rows["content_high"][0] == rows["content_high"][1] != rows["content_high"][2]
    assert len({*rows["key"]}) == 3
    assert rows["signature"][0] == rows["signature"][1]


def test_batches_do_not_show(tmp_path: Path) -> None:
    texts = [" ".join(words(seed, 3 + seed % 200)) for seed in range(600)]
    ids, hashes, heldout = [str(i) for i in range(600)], ["0" * 32] * 600, [False] * 600
    for name, step in (("whole", 600), ("cut", 7)):
        (tmp_path / name).mkdir()
        writer = SignatureWriter(tmp_path / name, DedupConfig())
        for start in range(0, 600, step):
            here = slice(start, start + step)
            writer.add(texts[here], ids[here], hashes[here], heldout[here])
        assert writer.close() == 600
    whole, cut = (tmp_path / name / "signatures.arrow" for name in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()


def test_signatures_of_other_settings_are_refused(tmp_path: Path) -> None:
    part = sign(tmp_path / "part", [Document("s", "1", "text")], DedupConfig())
    path = tmp_path / "part" / "signatures.arrow"
    check_signatures(path, part.rows, DedupConfig(fuzzy=FuzzyConfig(threshold=0.9)))
    with pytest.raises(CorruptError, match="of another kind"):
        check_signatures(path, part.rows, DedupConfig(fuzzy=FuzzyConfig(ngram=4)))
    with pytest.raises(CorruptError, match="1 signatures of 2 documents"):
        check_signatures(path, 2, DedupConfig())


@pytest.mark.parametrize("fuzzy", [FuzzyConfig(), None])
def test_a_part_may_be_empty(tmp_path: Path, fuzzy: FuzzyConfig | None) -> None:
    writer = SignatureWriter(tmp_path, DedupConfig(fuzzy=fuzzy))
    writer.add([], [], [], [])
    assert writer.close() == 0
    check_signatures(tmp_path / "signatures.arrow", 0, DedupConfig(fuzzy=fuzzy))
