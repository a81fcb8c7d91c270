"""Which pairs of a bucket are compared, and that thinning keeps what is connected."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.dedup import DedupConfig, FuzzyConfig, deduplicate, find_duplicates, lsh, read_reasons
from pipelines.dedup.components import connect
from pipelines.dedup.lsh import REPRESENTATIVES, Groups, band_keys, equal_rows, pairs, pieces, thinned
from tests.pipelines.dedup.corpus import Document, LocalRun, edited, sign, words


def test_bands_agree_where_their_rows_do() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, (1, 64), dtype=np.uint8)
    second = first.copy()
    second[0, [3, 17]] ^= 1  # in bands 0 and 2 of eight rows
    agree = band_keys(first, 8, 8) == band_keys(second, 8, 8)
    assert np.flatnonzero(~agree[0]).tolist() == [0, 2]
    repeated = np.tile(first[:, :8], 8)
    assert len(np.unique(band_keys(repeated, 8, 8))) == 8


@settings(max_examples=50)
@given(st.lists(st.integers(2, 90), max_size=12), st.integers(70, 300))
def test_each_member_is_compared_with_the_representatives_before_it(sizes: list[int], limit: int) -> None:
    groups = Groups(np.arange(sum(sizes)), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))
    wanted = {
        (start + i, start + j)
        for start, size in zip(groups.starts[:-1].tolist(), sizes, strict=True)
        for j in range(size)
        for i in range(min(j, REPRESENTATIVES))
    }
    seen: set[tuple[int, int]] = set()
    original, lsh._PIECE = lsh._PIECE, limit
    try:
        for piece in pieces(groups):
            assert len(piece.nodes) <= limit
            first, second = pairs(piece)
            seen |= set(zip(piece.nodes[first].tolist(), piece.nodes[second].tolist(), strict=True))
    finally:
        lsh._PIECE = original
    assert seen == wanted


@pytest.mark.parametrize("permutations", [64, 256, 1024])
def test_equal_rows_are_counted(permutations: int) -> None:
    rng = np.random.default_rng(permutations)
    signatures = rng.integers(0, 3, (50, permutations), dtype=np.uint8)
    first, second = np.triu_indices(50)
    wanted = (signatures[first] == signatures[second]).sum(axis=1)
    assert equal_rows(signatures, first, second).tolist() == wanted.tolist()


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=40))
def test_thinned_edges_connect_the_same_nodes(given_pairs: list[tuple[int, int]]) -> None:
    nodes = np.random.default_rng(0).permutation(np.repeat(np.arange(10) * 7, 2))  # each node stands there twice
    first, second = (np.array([pair[side] for pair in given_pairs], dtype=np.int64) for side in (0, 1))
    member, star = thinned(nodes, first, second)
    assert len(member) < 10
    assert (connect(member, star, 70) == connect(nodes[first], nodes[second], 70)).all()


def test_a_bucket_of_hundreds_is_joined_through_representatives(tmp_path: Path) -> None:
    base = words(1, 400)
    copies = [Document("s", str(i), edited(base, [i])) for i in range(5 * REPRESENTATIVES)]
    others = [Document("s", f"other {i}", " ".join(words(100 + i, 50))) for i in range(20)]
    part = sign(tmp_path / "part", copies + others, DedupConfig())
    run = LocalRun()
    outcome = deduplicate([part], ["s"], DedupConfig(), tmp_path / "work", run)
    reasons = read_reasons(outcome.reasons[0])
    assert (reasons[: len(copies)] == 0).sum() == 1
    assert (reasons[len(copies) :] == 0).all()
    assert json.dumps(outcome.samples)


def test_the_work_of_a_bucket_is_bounded(tmp_path: Path) -> None:
    base, config = words(1, 400), DedupConfig()
    count = 10 * REPRESENTATIVES
    part = sign(tmp_path / "part", [Document("s", str(i), edited(base, [i])) for i in range(count)], config)
    run = LocalRun()
    found = find_duplicates([part], ["s"], config, tmp_path / "work", run)
    assert found.largest_bucket > 5 * REPRESENTATIVES
    assert found.compared <= FuzzyConfig().bands * REPRESENTATIVES * count
    assert [result["edges"] for result in run.results["edges"]] == [count - 1]
