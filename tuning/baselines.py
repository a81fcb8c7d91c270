"""What the search is held against, on the same landscapes, ledger and noise: grid, random, plain ASHA, Optuna's TPE alone.

Each picks the finished trial with the best observed objective, as these methods are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import qmc

from tuning.history import History, Job, Result
from tuning.landscapes import Landscape
from tuning.rungs import asha_promotable, next_rung
from tuning.simulate import SCALAR, Step, Trace, observe
from tuning.space import Point, Space
from tuning.tpe import TpeSampler

_ASHA_RUNGS = (1 / 9, 1 / 3, 1.0)
"""Reduction factor 3, as in Li et al. 2020 (they use 4 with more rungs)."""


@dataclass
class _Run:
    """Results of a baseline and its pick along the way."""

    space: Space
    landscape: Landscape
    budget: float
    seed: int
    results: list[Result] = field(default_factory=list)
    values: dict[int, list[float]] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    spent: float = 0.0
    best: tuple[float, Point] | None = None

    def run(self, trial: int, point: Point, start: float, end: float) -> float | None:
        """Observed objective at the end of the job; None when the budget does not reach."""
        if self.spent + end - start > self.budget * (1 + 1e-9):
            return None
        job = Job(len(self.results), trial, point, self.seed * 1_000_003 + trial, start, end, "")
        result = observe(self.space, self.landscape, job, self.seed)
        self.results.append(result)
        self.spent += end - start
        metrics = result.reports[-1].metrics
        value = float(SCALAR.of(np.array(metrics["domain_loss"]), np.array(metrics["general_loss"])))
        self.values.setdefault(trial, []).append(value)
        if end >= point.tokens * (1 - 1e-6) and (self.best is None or value < self.best[0]):
            self.best = (value, point)
        self.steps.append(Step(self.spent, self.best[1] if self.best else None))
        return value

    def trace(self) -> Trace:
        return Trace(tuple(self.steps), "budget")


def grid(space: Space, landscape: Landscape, budget: float, seed: int) -> Trace:
    """The full 5^d grid in a random order: its pick at the end costs the whole grid."""
    points = space.grid(5)
    order = np.random.default_rng(seed).permutation(len(points))
    return _whole_runs(space, landscape, budget, seed, (points[i] for i in order))


def random_search(space: Space, landscape: Landscape, budget: float, seed: int) -> Trace:
    """Whole runs at points spread by a scrambled Sobol sequence, which is kinder than plain random numbers."""
    return _whole_runs(space, landscape, budget, seed, _sobol(space, seed))


def tpe(space: Space, landscape: Landscape, budget: float, seed: int) -> Trace:
    """Whole runs at the points of Optuna's TPE."""
    sampler = TpeSampler(space, seed)
    run = _Run(space, landscape, budget, seed)
    while True:
        point = sampler.ask(len(run.results))
        value = run.run(len(run.results), point, 0, _end(space, point))
        if value is None:
            return run.trace()
        sampler.tell(point, value)


def asha(space: Space, landscape: Landscape, budget: float, seed: int) -> Trace:
    """Random points with successive halving, promoted by resuming."""
    run = _Run(space, landscape, budget, seed)
    points = _sobol(space, seed)
    while True:
        history = History(tuple(run.results))
        trial = asha_promotable(space, history, _ASHA_RUNGS, run.values, 3)
        number, point, start = (
            (trial.number, trial.point, trial.tokens) if trial else (len(history.trials), next(points), 0)
        )
        end = next_rung(space, point, _ASHA_RUNGS, start)
        assert end is not None
        if run.run(number, point, start, end) is None:
            return run.trace()


BASELINES: dict[str, Callable[[Space, Landscape, float, int], Trace]] = {
    "random": random_search,
    "asha": asha,
    "tpe": tpe,
}


def _whole_runs(space: Space, landscape: Landscape, budget: float, seed: int, points: Iterator[Point]) -> Trace:
    run = _Run(space, landscape, budget, seed)
    for number, point in enumerate(points):
        if run.run(number, point, 0, _end(space, point)) is None:
            break
    return run.trace()


def _sobol(space: Space, seed: int) -> Iterator[Point]:
    sequence = qmc.Sobol(space.dims, rng=seed)
    while True:
        yield from (space.point(u) for u in sequence.random(64))


def _end(space: Space, point: Point) -> int:
    end = next_rung(space, point, (1.0,), 0)
    assert end is not None
    return end
