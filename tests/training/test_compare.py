"""The paired bootstrap: its laws, its agreement with plain resampling of items, its coverage."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ground.errors import UserError
from training.compare import Pairs, compare, paired_difference
from training.tasks.results import Evaluation, ItemScore, TaskScore, group_score

answers = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def pair(raw: list[tuple[bool, bool]]) -> Pairs:
    both = np.array(raw, dtype=np.float64)
    return both[:, 0], both[:, 1]


def evaluation(raw: dict[str, list[float]], groups: dict[str, dict[str, float]] | None = None) -> Evaluation:
    items = [
        ItemScore(task, str(i), f"{task}{i}", acc, None) for task, accs in raw.items() for i, acc in enumerate(accs)
    ]
    scores = [TaskScore(task, len(accs), float(np.mean(accs)), 0.1, None, None) for task, accs in raw.items()]
    return Evaluation({"model": "m"}, groups or {}, scores, items)


@given(answers, answers, st.floats(0.05, 0.95), st.integers(0, 3))
@settings(max_examples=60)
def test_laws(first: list[tuple[bool, bool]], second: list[tuple[bool, bool]], share: float, seed: int) -> None:
    pairs, weights = {"a": pair(first), "b": pair(second)}, {"a": share, "b": 1 - share}
    one = paired_difference("g", pairs, weights, seed=seed, resamples=500)
    assert one == paired_difference("g", pairs, weights, seed=seed, resamples=500)
    means = {task: float((a - b).mean()) for task, (a, b) in pairs.items()}
    assert one.difference == pytest.approx(share * means["a"] + (1 - share) * means["b"])
    assert -1 <= one.low <= one.high <= 1
    assert 0 < one.p <= 1
    assert one.n == len(first) + len(second)
    shuffled = {task: (a[::-1], b[::-1]) for task, (a, b) in pairs.items()}
    assert paired_difference("g", shuffled, weights, seed=seed, resamples=500) == one
    back = paired_difference("g", {task: (b, a) for task, (a, b) in pairs.items()}, weights, resamples=500)
    assert back.difference == pytest.approx(-one.difference)
    assert back.stderr is None if one.stderr is None else back.stderr == pytest.approx(one.stderr)


@given(answers)
def test_a_model_against_itself_differs_by_nothing(raw: list[tuple[bool, bool]]) -> None:
    ours, _ = pair(raw)
    one = paired_difference("t", {"t": (ours, ours)}, {"t": 1.0}, resamples=200)
    assert (one.difference, one.low, one.high, one.p) == (0.0, 0.0, 0.0, 1.0)


def test_a_plain_bootstrap_over_items_gives_the_same_distribution() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = (rng.random(80) < 0.6).astype(float), (rng.random(80) < 0.45).astype(float)
    one = paired_difference("t", {"t": (ours, theirs)}, {"t": 1.0}, resamples=40_000)
    drawn = (ours - theirs)[rng.integers(0, 80, size=(40_000, 80))].mean(axis=1)
    assert one.low == pytest.approx(np.quantile(drawn, 0.025), abs=0.013)  # a step of the mean is 1/80
    assert one.high == pytest.approx(np.quantile(drawn, 0.975), abs=0.013)
    assert one.p == pytest.approx(2 * min((drawn <= 0).mean(), (drawn >= 0).mean()), abs=0.01)
    assert one.stderr == pytest.approx(drawn.std(), rel=0.03)


def test_the_interval_covers_the_truth_and_p_is_level() -> None:
    """400 draws of two tasks whose true group difference is 0.06: 95 % of intervals hold it; at 0, 5 % of p are below .05."""
    rng = np.random.default_rng(2)
    weights = {"a": 0.5, "b": 0.5}

    def draw(gain: float, n: int) -> Pairs:
        hard = rng.random(n)
        return (hard + 0.2 * rng.random(n) < 0.5 + gain).astype(float), (hard + 0.2 * rng.random(n) < 0.5).astype(float)

    covered, rejected = 0, 0
    for trial in range(400):
        better = {"a": draw(0.04, 300), "b": draw(0.08, 120)}
        one = paired_difference("g", better, weights, seed=trial, resamples=1000)
        covered += one.low <= 0.06 <= one.high
        equal = {"a": draw(0.0, 300), "b": draw(0.0, 120)}
        rejected += paired_difference("g", equal, weights, seed=trial, resamples=1000).p < 0.05
    assert 0.92 <= covered / 400 <= 0.98
    assert 0.02 <= rejected / 400 <= 0.085


def test_a_clear_gain_is_clear_and_pairing_tells_more_than_two_errors() -> None:
    theirs = np.array([1.0, 0.0] * 200)
    ours = theirs.copy()
    ours[1:40:2] = 1.0  # 20 more of 400 right, none lost
    one = paired_difference("t", {"t": (ours, theirs)}, {"t": 1.0})
    assert one.difference == pytest.approx(0.05)
    assert one.low > 0
    assert one.p < 0.001
    unpaired = math.sqrt(ours.var(ddof=1) / 400 + theirs.var(ddof=1) / 400)
    assert one.stderr is not None
    assert one.stderr < unpaired / 2


def test_compare_takes_groups_that_are_alike_then_tasks() -> None:
    weights = {"a": 0.5, "b": 0.5}
    ours = evaluation({"a": [1, 1, 0], "b": [1, 0], "mine": [1]}, {"g": weights, "h": {"a": 1.0}})
    theirs = evaluation({"b": [0, 0], "a": [1, 0, 0]}, {"g": weights, "h": {"b": 1.0}})
    found = compare(ours, theirs)
    assert [one.name for one in found] == ["g", "a", "b"]
    assert found[0].difference == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert found[1].difference == pytest.approx(1 / 3)


def test_items_are_paired_by_key_and_not_by_place() -> None:
    ours = evaluation({"a": [1, 0, 0]})
    turned = replace(ours, items=ours.items[::-1])
    assert compare(ours, turned)[0].stderr == 0


def test_what_cannot_be_paired_is_refused() -> None:
    ours = evaluation({"a": [1, 0]})
    with pytest.raises(UserError, match="no task in common"):
        compare(ours, evaluation({"b": [1, 0]}))
    with pytest.raises(UserError, match=r"1 item.* of a are in only one"):
        compare(ours, evaluation({"a": [1, 0, 1]}))
    changed = replace(ours, items=[replace(ours.items[0], digest="other"), *ours.items[1:]])
    with pytest.raises(UserError, match="'0' of a was asked in other words"):
        compare(ours, changed)


def test_a_groups_error_by_hand() -> None:
    scores = {"a": TaskScore("a", 10, 0.5, 0.03, None, None), "b": TaskScore("b", 10, 0.7, 0.04, None, None)}
    group = group_score("g", {"a": 0.5, "b": 0.5}, scores)
    assert group.acc == pytest.approx(0.6)
    assert group.acc_stderr == pytest.approx(0.025)
