"""Gap metrics on curves whose numbers are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.gap import GapMetrics, gap_metrics

POINTS = st.lists(st.tuples(st.integers(1, 50), st.integers(-20, 20)), min_size=1, max_size=12)


def test_no_gap() -> None:
    assert gap_metrics([0, 10, 20, 30], [5.0, 6.0, 8.0, 7.0]) == GapMetrics(
        depth=0.0, recovery_tokens=0.0, area=0.0, peak=8.0, tokens_to_peak=20.0, forgetting=-2.0
    )


def test_never_recovers() -> None:
    gap = gap_metrics([0, 10, 20], [5.0, 1.0, 3.0])
    # Area: triangle 10 x 4 / 2, then the trapezium 10 x (4 + 2) / 2.
    assert gap == GapMetrics(depth=4.0, recovery_tokens=None, area=50.0, peak=5.0, tokens_to_peak=0.0, forgetting=2.0)


def test_recovers_exactly_on_a_point() -> None:
    gap = gap_metrics([0, 10, 20, 40], [5.0, 3.0, 5.0, 5.0])
    assert gap == GapMetrics(depth=2.0, recovery_tokens=20.0, area=20.0, peak=5.0, tokens_to_peak=0.0, forgetting=0.0)


def test_recovers_between_points() -> None:
    gap = gap_metrics([0, 10, 20], [5.0, 3.0, 7.0])
    assert gap == GapMetrics(depth=2.0, recovery_tokens=15.0, area=15.0, peak=7.0, tokens_to_peak=20.0, forgetting=-2.0)


def test_a_rise_before_the_fall_is_no_gap_until_the_base_is_crossed() -> None:
    gap = gap_metrics([0, 10, 20, 30], [5.0, 7.0, 3.0, 6.0])
    # Below the base from 15 to 20 + 10 * 2 / 3.
    assert gap.area == pytest.approx(5 * 2 / 2 + (20 / 3) * 2 / 2)
    assert gap.recovery_tokens == pytest.approx(20 + 20 / 3)
    assert (gap.peak, gap.tokens_to_peak) == (7.0, 10.0)


def test_recovery_is_counted_from_the_deepest_point() -> None:
    gap = gap_metrics([0, 10, 20, 30, 40], [5.0, 4.0, 6.0, 2.0, 8.0])
    assert gap.depth == 3.0
    assert gap.recovery_tokens == 35.0


def test_a_plateau_at_the_bottom() -> None:
    gap = gap_metrics([0, 10, 20, 30, 40], [5.0, 3.0, 3.0, 3.0, 5.0])
    assert gap == GapMetrics(depth=2.0, recovery_tokens=40.0, area=60.0, peak=5.0, tokens_to_peak=0.0, forgetting=0.0)


def test_a_plateau_on_the_base_is_no_gap() -> None:
    gap = gap_metrics([0, 10, 20], [5.0, 5.0, 5.0])
    assert gap == GapMetrics(depth=0.0, recovery_tokens=0.0, area=0.0, peak=5.0, tokens_to_peak=0.0, forgetting=0.0)


def test_a_single_point() -> None:
    assert gap_metrics([0], [-3.0]) == GapMetrics(0.0, 0.0, 0.0, -3.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("tokens", "scores", "message"),
    [
        ([], [], "at least one"),
        ([0, 1], [1.0], "as many tokens as scores"),
        ([0, 1, 1], [1.0, 2.0, 3.0], "must ascend"),
        ([0, 2, 1], [1.0, 2.0, 3.0], "must ascend"),
    ],
)
def test_curves_that_are_none_are_refused(tokens: list[float], scores: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gap_metrics(tokens, scores)


@given(st.integers(-20, 20), POINTS)
def test_area_agrees_with_numeric_integration(base: int, points: list[tuple[int, int]]) -> None:
    tokens = [0, *np.cumsum([width for width, _ in points]).tolist()]
    scores = [float(base), *(float(score) for _, score in points)]
    fine = np.linspace(0, tokens[-1], 200_001)
    below = np.maximum(0, base - np.interp(fine, tokens, scores))
    assert gap_metrics(tokens, scores).area == pytest.approx(np.trapezoid(below, fine), rel=1e-3, abs=1e-3)


@given(st.integers(-20, 20), POINTS)
def test_the_definitions_hold_on_any_curve(base: int, points: list[tuple[int, int]]) -> None:
    tokens = [0, *np.cumsum([width for width, _ in points]).tolist()]
    scores = [float(base), *(float(score) for _, score in points)]
    gap = gap_metrics(tokens, scores)
    assert gap.depth == max(0.0, base - min(scores))
    assert gap.peak == max(scores) == scores[tokens.index(gap.tokens_to_peak)]
    assert gap.forgetting == base - scores[-1]
    assert (gap.area > 0) == (gap.depth > 0)
    if gap.recovery_tokens is None:
        assert scores[-1] < base
    elif gap.depth > 0:
        lowest = tokens[scores.index(min(scores))]
        assert gap.recovery_tokens > lowest
        assert np.interp(gap.recovery_tokens, tokens, scores) == pytest.approx(base, abs=1e-9)
        between = np.linspace(lowest, gap.recovery_tokens, 50)[:-1]
        assert (np.interp(between, tokens, scores) < base + 1e-9).all()
    else:
        assert gap.recovery_tokens == 0


@given(st.integers(-20, 20), POINTS, st.integers(-100, 100), st.integers(1, 9))
def test_only_differences_to_the_base_count(base: int, points: list[tuple[int, int]], shift: int, scale: int) -> None:
    tokens = [0, *np.cumsum([width for width, _ in points]).tolist()]
    scores = [float(base), *(float(score) for _, score in points)]
    one, other = gap_metrics(tokens, scores), gap_metrics([scale * t for t in tokens], [s + shift for s in scores])
    assert other.depth == one.depth
    assert other.area == pytest.approx(scale * one.area)
    assert (other.recovery_tokens is None) == (one.recovery_tokens is None)
    assert other.recovery_tokens is None or other.recovery_tokens == pytest.approx(scale * (one.recovery_tokens or 0))
