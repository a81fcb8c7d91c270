"""Effective tokens of repeated data against the published formula and its limits."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.repetition import R_STAR, effective_tokens


def test_one_epoch_is_worth_itself() -> None:
    assert effective_tokens(1e9, 1e9) == 1e9


def test_four_epochs_by_hand() -> None:
    # R = 3: U + U R* (1 - exp(-3 / 15.387756)) = 3.726 U; the paper: 4 epochs are almost as good as new data.
    assert effective_tokens(100, 400) == pytest.approx(
        100 + 100 * 15.387756 * (1 - math.exp(-3 / 15.387756)), rel=1e-12
    )
    assert effective_tokens(100, 400) == pytest.approx(372.6, abs=0.1)


def test_nothing_is_worth_nothing() -> None:
    assert effective_tokens(0, 0) == effective_tokens(0, 10) == 0.0


@given(st.floats(1, 1e12), st.floats(1, 1000), st.floats(1, 1000))
def test_more_repeats_are_worth_more_but_never_more_than_fresh_tokens(unique: float, one: float, other: float) -> None:
    fewer, more = sorted((one, other))
    low, high = effective_tokens(unique, unique * fewer), effective_tokens(unique, unique * more)
    assert low <= high * (1 + 1e-12)
    assert unique * (1 - 1e-12) <= high <= min(unique * more, unique * (1 + R_STAR)) * (1 + 1e-12)


@pytest.mark.parametrize(("unique", "seen"), [(-1, 5), (5, 4)])
def test_impossible_counts_are_refused(unique: float, seen: float) -> None:
    with pytest.raises(ValueError, match="need 0 <= unique <= seen"):
        effective_tokens(unique, seen)
