"""The n-gram estimate: sums to one, hand-computed values, the same whatever the order of the documents."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.quality.arpa import Grams, read_arpa
from pipelines.quality.kneser_ney import estimate

BEGIN, END, UNKNOWN = 0, 1, 2
texts = st.lists(st.lists(st.integers(0, 4), max_size=8), min_size=1, max_size=8).filter(any)


def arrays(found: list[list[int]]) -> list[np.ndarray]:  # type: ignore[type-arg]
    return [np.array(units, dtype=np.int64) for units in found]


def tables(grams: list[Grams]) -> list[dict[tuple[int, ...], tuple[float, float]]]:
    return [
        {tuple(ids): (p, b) for ids, p, b in zip(g.ids.tolist(), g.log10.tolist(), g.backoff.tolist(), strict=True)}
        for g in grams
    ]


def probability(table: list[dict[tuple[int, ...], tuple[float, float]]], context: tuple[int, ...], unit: int) -> float:
    """P(unit | context), backing off as every reader of an ARPA file does."""
    if (*context, unit) in table[len(context)]:
        return 10 ** table[len(context)][(*context, unit)][0]
    if not context:
        return 10 ** table[0][(UNKNOWN,)][0]
    weight = table[len(context) - 1].get(context, (0.0, 0.0))[1]
    return 10**weight * probability(table, context[1:], unit)


@settings(max_examples=50)
@given(found=texts, order=st.integers(1, 4))
def test_probabilities_after_any_context_sum_to_one(found: list[list[int]], order: int) -> None:
    table = tables(estimate(arrays(found), order))
    units = [u for (u,) in table[0] if u != BEGIN]
    contexts: set[tuple[int, ...]] = {()}
    for units_of in found:
        padded = (BEGIN, *(u + 3 for u in units_of))
        contexts |= {padded[i : i + n] for n in range(1, order) for i in range(len(padded) - n + 1)}
    contexts |= {(4, 3, 4)[:n] for n in range(order)}
    for context in contexts:
        assert sum(probability(table, context, u) for u in units) == pytest.approx(1, abs=1e-5)


def test_unigrams_by_hand() -> None:
    """One order: counts, the fallback discounts and a uniform share over four words, </s> and <unk>."""
    table = tables(estimate(arrays([[0, 0, 0, 1, 1, 2]]), 1))[0]
    counts = {3: 3, 4: 2, 5: 1, END: 1}
    total, discounts = 7, {1: 0.5, 2: 1.0, 3: 1.5}
    left = sum(discounts[c] for c in counts.values()) / total
    for unit, count in counts.items():
        expected = (count - discounts[count]) / total + left / 5
        assert 10 ** table[(unit,)][0] == pytest.approx(expected, rel=1e-5)
    assert 10 ** table[(UNKNOWN,)][0] == pytest.approx(left / 5, rel=1e-5)
    assert table[(BEGIN,)][0] == -99


def test_lower_orders_count_different_left_neighbours() -> None:
    """ "san" is frequent after one word only, so that by itself it is as rare as a word seen once."""
    table = tables(estimate(arrays([[0, 1], [0, 1], [0, 1], [2, 3], [4, 5]]), 2))[0]
    assert table[(4,)][0] == pytest.approx(table[(6,)][0])


def test_a_text_of_real_size_uses_estimated_discounts() -> None:
    rng = np.random.default_rng(0)
    docs = [rng.zipf(1.5, size=200) % 300 for _ in range(50)]
    grams = estimate(docs, 3)
    bigrams = Counter(pair for doc in docs for pair in pairwise([BEGIN, *(doc + 3).tolist(), END]))
    assert len(grams[1].ids) == len(bigrams)
    table = tables(grams)
    units = [u for (u,) in table[0] if u != BEGIN]
    assert sum(probability(table, (3, 4), u) for u in units) == pytest.approx(1, abs=1e-4)
    assert all(math.isfinite(b) for g in grams for b in g.backoff.tolist())


@given(found=texts)
def test_the_order_of_documents_does_not_matter(found: list[list[int]]) -> None:
    for a, b in zip(estimate(arrays(found), 3), estimate(arrays(found[::-1]), 3), strict=True):
        assert a.ids.tobytes() == b.ids.tobytes()
        assert a.log10.tobytes() == b.log10.tobytes()
        assert a.backoff.tobytes() == b.backoff.tobytes()


def test_no_unit_is_an_error() -> None:
    with pytest.raises(ValueError, match="no unit"):
        estimate(arrays([[], []]), 2)


@pytest.mark.skipif(shutil.which("lmplz") is None, reason="KenLM's lmplz, the oracle, is not on PATH")
@pytest.mark.parametrize("order", [2, 3, 5])
def test_the_estimate_is_that_of_lmplz(tmp_path: Path, order: int) -> None:
    rng = np.random.default_rng(1)
    docs = [rng.zipf(1.4, size=int(rng.integers(1, 200))) % 500 for _ in range(300)]
    (tmp_path / "text").write_text("".join(" ".join(map(str, doc.tolist())) + "\n" for doc in docs))
    command = ["lmplz", "-o", str(order), "--text", str(tmp_path / "text"), "--arpa", str(tmp_path / "arpa")]
    subprocess.run([*command, "--discount_fallback"], check=True, capture_output=True)
    _, theirs = read_arpa(tmp_path / "arpa", [str(n) for n in range(500)])
    for mine, other in zip(estimate(docs, order), theirs, strict=True):
        at = np.lexsort(other.ids.T[::-1])
        np.testing.assert_array_equal(mine.ids, other.ids[at])
        predicted = mine.ids[:, -1] != BEGIN  # lmplz gives <s> a probability of 1, which nobody asks for
        np.testing.assert_allclose(mine.log10[predicted], other.log10[at][predicted], atol=2e-6)
        np.testing.assert_allclose(mine.backoff, other.backoff[at], atol=2e-6)
