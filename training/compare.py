"""Paired comparison of two evaluations over the same items: is one model better, or is it the draw of the questions?

The two models answer the same questions, so the questions' difficulty cancels: only items that one answers and the other
does not tell anything, and the interval is narrower than the two standard errors suggest.

**Difference** of a task: mean over its items of d_i = a_i - b_i, each -1, 0 or 1. Of a group: sum over tasks of
w_t mean_t(d), the weights those of the group's mean.

**Interval and p**: paired bootstrap (Efron and Tibshirani 1993, chapter 13; Koehn 2004 for two systems on one test set).
A resample draws, within each task, as many items as it has with replacement. The interval is from the 2.5 % to the 97.5 %
quantile of the resampled differences. p = min(1, 2 (1 + min(#{D* <= 0}, #{D* >= 0})) / (1 + R)), two-sided, the level at
which the interval would just reach 0; the 1s keep it from being 0 (Davison and Hinkley 1997, section 4.2).

Resampling items with replacement draws the counts of the values of d from a multinomial distribution, so the counts are
drawn: the same distribution, in a time that does not depend on the number of items.

**Standard error**: sqrt(sum over tasks of w_t^2 s_t^2 / n_t), s_t the sample standard deviation of d.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ground.errors import UserError
from training.tasks.results import Evaluation, ItemScore

RESAMPLES = 10_000
Pairs = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Correctness of the two models on the same items, each of shape (items,)."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better the first model is, as a fraction of 1."""

    name: str
    """Of the task or group."""
    n: int
    difference: float
    stderr: float | None
    """None if a task has one item."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    p: float


def paired_difference(
    name: str,
    pairs: Mapping[str, Pairs],
    weights: Mapping[str, float],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Difference:
    """The difference of two models on a task or group; equal input and seed give an equal result.

    Args:
        pairs: task -> correctness of both models on its items.
        weights: task -> weight in the mean; they sum to 1.
        seed: of the resampling.
        resamples: number of resamples.
    """
    rng = np.random.default_rng(seed)
    drawn = np.zeros(resamples)
    difference, variance, items = 0.0, 0.0, 0
    for task in sorted(weights):
        ours, theirs = pairs[task]
        values, counts = np.unique(ours - theirs, return_counts=True)
        n, weight = len(ours), weights[task]
        drawn += weight * (rng.multinomial(n, counts / n, size=resamples) @ values) / n
        mean = float(counts @ values) / n
        difference += weight * mean
        spread = float(counts @ (values - mean) ** 2)
        variance += weight**2 * spread / (n - 1) / n if n > 1 else math.nan
        items += n
    drawn[np.abs(drawn) < 1e-12] = 0.0  # weighted sums that cancel leave a rounding error on one side of 0
    low, high = np.quantile(drawn, (0.025, 0.975))
    tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    stderr = None if math.isnan(variance) else math.sqrt(variance)
    return Difference(
        name, items, difference, stderr, float(low), float(high), min(1.0, 2 * (1 + tail) / (1 + resamples))
    )


def compare(ours: Evaluation, theirs: Evaluation, *, seed: int = 0, resamples: int = RESAMPLES) -> list[Difference]:
    """Differences in accuracy, ``ours`` minus ``theirs``: of the groups both have alike, then of the tasks both have.

    Raises:
        UserError: they have no task in common, or the items of a common task differ.
    """
    first, second = _by_task(ours), _by_task(theirs)
    common = [task for task in first if task in second]
    if not common:
        mend = f"evaluate with --tasks {','.join(second)}"
        raise UserError("--against", "the two evaluations have no task in common", mend)
    pairs = {task: _pair(task, first[task], second[task]) for task in common}
    groups = {name: weights for name, weights in ours.groups.items() if theirs.groups.get(name) == weights}
    wanted = groups | {task: {task: 1.0} for task in common}
    return [paired_difference(name, pairs, weights, seed=seed, resamples=resamples) for name, weights in wanted.items()]


def _by_task(evaluation: Evaluation) -> dict[str, dict[str, ItemScore]]:
    tasks: dict[str, dict[str, ItemScore]] = {}
    for item in evaluation.items:
        tasks.setdefault(item.task, {})[item.key] = item
    return tasks


def _pair(task: str, ours: Mapping[str, ItemScore], theirs: Mapping[str, ItemScore]) -> Pairs:
    mend = "evaluate both models with the same --data and --limit"
    if ours.keys() != theirs.keys():
        apart = len(ours.keys() ^ theirs.keys())
        raise UserError("--against", f"{apart} item(s) of {task} are in only one of the two evaluations", mend)
    if changed := [key for key, item in ours.items() if item.digest != theirs[key].digest]:
        raise UserError("--against", f"item {changed[0]!r} of {task} was asked in other words there", mend)
    return (
        np.array([item.acc for item in ours.values()]),
        np.array([theirs[key].acc for key in ours]),
    )
