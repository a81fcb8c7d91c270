"""Tijdeman's bound in every prefix, and how shares become whole numbers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.interleave import MAX_PERIOD, Interleaving, exact_counts

# The mixture of LLaMA's pre-training data (Touvron et al. 2023, table 1; CommonCrawl and C4 together).
LLAMA = {"web": 0.82, "code": 0.045, "wiki": 0.045, "books": 0.045, "papers": 0.025, "answers": 0.02}
COUNTS = st.lists(st.integers(1, 60), min_size=1, max_size=8).map(tuple)


@given(COUNTS)
def test_every_prefix_is_within_tijdemans_bound(counts: tuple[int, ...]) -> None:
    interleaving = Interleaving(counts)
    period, n = sum(counts), len(counts)
    layout = interleaving.sources(np.arange(period))
    for source, quota in enumerate(counts):
        given_ = np.cumsum(layout == source)
        deviation = np.abs(given_ * period - quota * np.arange(1, period + 1))  # in units of 1 / period
        assert deviation.max() * max(2 * n - 2, 1) <= max(2 * n - 3, 0) * period
        assert given_[-1] == quota


@given(COUNTS, st.lists(st.integers(0, 10**15), min_size=1, max_size=20))
def test_counting_agrees_with_the_layout(counts: tuple[int, ...], positions: list[int]) -> None:
    interleaving = Interleaving(counts)
    array = np.array(positions)
    totals = np.zeros(len(positions), dtype=np.int64)
    for source in range(len(counts)):
        many = interleaving.count_many(source, array)
        assert many.tolist() == [interleaving.count(source, position) for position in positions]
        served = interleaving.sources(array) == source
        assert (interleaving.count_many(source, array + 1) - many == served).all()
        totals += many
    assert (totals == array).all()


def test_the_published_shares_are_exact() -> None:
    counts = exact_counts(LLAMA)
    assert counts == {"web": 164, "code": 9, "wiki": 9, "books": 9, "papers": 5, "answers": 4}
    Interleaving(tuple(counts.values()))


@given(st.lists(st.integers(1, 500), min_size=1, max_size=8), st.sampled_from([10, 100, 1000, 2000]))
def test_decimal_shares_that_fit_stay_exact(weights: list[int], denominator: int) -> None:
    while sum(weights) > denominator:
        weights = [max(1, weight // 2) for weight in weights]
    weights[0] += denominator - sum(weights)
    shares = {f"s{i}": weight / denominator for i, weight in enumerate(weights)}
    counts = exact_counts(shares)
    period = sum(counts.values())
    assert {name: Fraction(count, period) for name, count in counts.items()} == {
        f"s{i}": Fraction(weight, denominator) for i, weight in enumerate(weights)
    }


@given(st.lists(st.floats(1e-3, 1), min_size=1, max_size=10))
def test_other_shares_are_rounded_by_less_than_one_count(weights: list[float]) -> None:
    shares = {f"s{i}": weight / math.fsum(weights) for i, weight in enumerate(weights)}
    counts = exact_counts(shares)
    period = sum(counts.values())
    assert period <= MAX_PERIOD
    assert min(counts.values()) >= 1
    for name, share in shares.items():
        assert abs(counts[name] / period - share) < 1 / MAX_PERIOD + 1e-9


@given(st.integers(1, 30), st.floats(1e-12, 1e-5), st.integers(1, 5))
def test_tiny_shares_keep_one_place_each(tiny: int, share: float, large: int) -> None:
    shares = {f"t{i}": share for i in range(tiny)} | {f"l{i}": (1 - tiny * share) / large for i in range(large)}
    counts = exact_counts(shares)
    assert sum(counts.values()) == MAX_PERIOD
    assert all(counts[f"t{i}"] == 1 for i in range(tiny))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({}, "must be positive"),
        ({"a": 1.0, "b": 0.0}, "must be positive"),
        ({"a": 1.5, "b": -0.5}, "must be positive"),
        ({"a": 0.5, "b": 0.49}, "must sum to 1, got 0.99"),
    ],
)
def test_impossible_shares_are_refused(shares: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        exact_counts(shares)


def test_literal_layout() -> None:
    assert Interleaving((3, 2, 1)).sources(np.arange(12)).tolist() == [0, 1, 0, 2, 1, 0, 0, 1, 0, 2, 1, 0]
