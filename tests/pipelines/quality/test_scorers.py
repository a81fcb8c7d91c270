"""What the default promises: nothing of the batch in a score, costs only make worse, rare terms forgiven, runs of them not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.quality.costs import Costs
from pipelines.quality.scorers import DifferenceScorer, PerplexityScorer, robust_scores
from pipelines.quality.table import SCALE

CEILING, WINDOW, DOUBT, DOUBT_COST = 4.0, 16, 8, 3.4
ONE = st.lists(st.integers(0, 7 * SCALE), max_size=90)


def costs_of(documents: list[list[int]], end: int = 3 * SCALE) -> Costs:
    values = np.array([v for document in documents for v in (*document, end)], dtype=np.int32)
    return Costs(values, np.cumsum([0, *(len(document) + 1 for document in documents)]))


def robust(documents: list[list[int]], **changes: float) -> np.ndarray:
    settings = {"ceiling": CEILING, "window": WINDOW, "doubt": DOUBT, "doubt_cost": DOUBT_COST} | changes
    return robust_scores(costs_of(documents), **settings)


@given(documents=st.lists(ONE, max_size=6))
def test_a_score_does_not_depend_on_the_batch(documents: list[list[int]]) -> None:
    alone = np.array([robust([document])[0] for document in documents])
    assert robust(documents).tobytes() == alone.tobytes()


@given(document=ONE.filter(bool), data=st.data())
def test_a_dearer_unit_never_improves_a_score(document: list[int], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(document) - 1))
    dearer = [*document]
    dearer[index] += data.draw(st.integers(1, 3 * SCALE))
    before, after = robust([document, dearer])
    assert after >= before


@given(document=ONE)
def test_scores_are_between_nothing_and_the_ceiling(document: list[int]) -> None:
    (score,) = robust([document])
    assert score == math.inf if not document else 0 <= score <= CEILING


def test_plain_mean_for_an_even_text_without_doubt() -> None:
    """The end, at 3, is one more unit; a short text is one window."""
    assert robust([[2 * SCALE, SCALE]], doubt=0)[0] == pytest.approx((2 + 1 + 3) / 3, abs=1e-6)
    even = costs_of([[2 * SCALE, SCALE] * 40], end=2 * SCALE)
    assert robust_scores(even, CEILING, 16, 0, DOUBT_COST)[0] == pytest.approx(1.5, abs=0.02)


def test_the_worse_half_counts_threefold() -> None:
    """Four windows at 1, 1, 1 and 3: the worse two are 3 and 1."""
    document = [SCALE] * 3 * WINDOW + [3 * SCALE] * (WINDOW - 1)
    assert robust([document], doubt=0)[0] == pytest.approx((3 * (3 + 1) + 1 + 1) / 8, abs=1e-6)
    start = [3 * SCALE] * WINDOW + [SCALE] * (3 * WINDOW - 1)
    moved = robust_scores(costs_of([start], end=SCALE), CEILING, WINDOW, 0, DOUBT_COST)
    assert moved[0] == robust([document], doubt=0)[0]


@given(length=st.integers(20, 300), at=st.integers(0, 299))
def test_one_rare_term_hardly_moves_a_good_document(length: int, at: int) -> None:
    good = [2 * SCALE] * length
    rare = [*good]
    rare[at % length] = 100 * SCALE
    before, after = robust([good, rare])
    # 2 log10 more for one unit, counted threefold at most.
    assert 0 <= after - before <= 3 * (CEILING - 2) / length


def test_a_run_of_unknown_terms_sinks_a_document() -> None:
    good, ordinary = [2 * SCALE] * 200, [int(3.2 * SCALE)] * 200
    broken = [*good[:120], *[int(6.5 * SCALE)] * 80]
    scores = robust([good, ordinary, broken, [int(6.5 * SCALE)] * 200])
    assert scores[0] < scores[1] < scores[3]
    assert scores[0] + 0.9 < scores[2] < scores[3]


@given(cost=st.integers(1, int(DOUBT_COST * SCALE) - 1), short=st.integers(1, 100), more=st.integers(1, 100))
def test_of_two_equally_good_texts_the_longer_is_better(cost: int, short: int, more: int) -> None:
    costs = costs_of([[cost] * (short + more), [cost] * short], end=cost)
    scores = robust_scores(costs, CEILING, WINDOW, DOUBT, DOUBT_COST)
    assert scores[0] < scores[1] < DOUBT_COST


class Fixed:
    """A model that charges given costs."""

    def __init__(self, costs: Costs) -> None:
        self._costs = costs

    def costs(self, tokens: object, texts: object) -> Costs:
        return self._costs

    def unigram_cost(self, ceiling: float) -> float:
        return ceiling


def test_perplexity_counts_the_end() -> None:
    scores = PerplexityScorer(Fixed(costs_of([[SCALE, 2 * SCALE], [], [SCALE]])))([], [])
    assert scores.tolist() == [2.0, math.inf, 2.0]


def test_difference_by_hand() -> None:
    """(1 + 2 + 3) / 3 - (2 + 4 + 3) / 3 = -1; with other units on the general side each is divided by its own count."""
    reference, general = costs_of([[SCALE, 2 * SCALE], []]), costs_of([[2 * SCALE, 4 * SCALE], []])
    assert DifferenceScorer(Fixed(reference), Fixed(general))([], []).tolist() == [-1.0, math.inf]
