"""A whole search against an analytic landscape: same decisions, same ledger, no training. Milliseconds for each job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from tuning.config import Amount, ObjectiveConfig, TuningConfig
from tuning.driver import Driver, Wait, advance
from tuning.history import Job, Report, Result, Trial
from tuning.landscapes import BASE, Landscape
from tuning.objective import Scalar, tolerance
from tuning.propose import Planner, Stop, Survey
from tuning.space import Point, Space

Floats = NDArray[np.float64]

SCALAR = tolerance(ObjectiveConfig(), BASE[1])
"""The objective of all simulations: domain loss, general loss at most ``epsilon`` above the base."""


@dataclass(frozen=True)
class Step:
    """The state of a search after so much of its budget."""

    spent: float
    """Tokens trained on."""
    pick: Point | None
    """The recipe that the search would hand over now."""


@dataclass(frozen=True)
class Trace:
    """A whole search."""

    steps: tuple[Step, ...]
    reason: str
    """Why it ended."""


Searcher = Callable[[Space, Landscape, float, int], Trace]
"""(space, landscape, budget in tokens, seed) -> trace."""


def settings(budget: float, space: Space, seed: int, concurrent: int = 4) -> TuningConfig:
    """The default search at a budget, with four trials at once."""
    return TuningConfig(
        budget=Amount(value=budget),
        run_budget=Amount(value=space.limits.run_tokens),
        max_concurrent=concurrent,
        seed=seed,
    )


def search(
    space: Space,
    landscape: Landscape,
    budget: float,
    seed: int,
    config: TuningConfig | None = None,
    earlier: Sequence[Trial] = (),
) -> Trace:
    """Steady's own search; ``max_concurrent`` jobs are in flight, each decision sees the results before them.

    Args:
        earlier: trials of other searches that it knows.
    """
    config = config or settings(budget, space, seed)
    planner = Planner(space, config, BASE[1])
    driver = Driver(None, budget, space.limits.step_tokens, config.max_concurrent, earlier)
    steps: list[Step] = []
    while True:
        made = advance(driver, planner.decide)
        if isinstance(made, Wait):  # the oldest job in flight ends
            driver.end(observe(space, landscape, driver.unfinished()[0], seed))
            continue
        steps.append(_step(driver, made.survey))
        if isinstance(made.action, Stop):
            break
    steps.append(_step(driver, planner.survey(driver.history())))
    return Trace(tuple(steps), made.action.reason)


def _step(driver: Driver, survey: Survey | None) -> Step:
    return Step(driver.ledger.state().settled, survey.best.point if survey and survey.best else None)


def observe(space: Space, landscape: Landscape, job: Job, seed: int) -> Result:
    """What the job reports: both metrics at its end. ``seed`` is the search's, so that two searches meet different noise."""
    progress = np.array([job.end / job.point.tokens])
    domain, general = landscape.observe(space, job.point, progress, hash((seed, job.seed)) & 0x7FFFFFFF)
    metrics = {"domain_loss": float(domain[0]), "general_loss": float(general[0])}
    return Result(job, (Report(job.end, metrics),))


@dataclass(frozen=True)
class Optimum:
    """The best there is."""

    point: Point
    value: float
    worst: float
    """95 % quantile of the objective over the space: the range a careless choice falls into."""


def true_value(space: Space, landscape: Landscape, point: Point, scalar: Scalar = SCALAR) -> float:
    """The objective at the end of a run, without noise."""
    return float(scalar.of(*landscape.truth(space, [point], np.ones(1)))[0])


def optimum(space: Space, landscape: Landscape, ticks: int = 13) -> Optimum:
    """The optimum by a fine grid and simplex searches from its four best points."""
    points = space.grid(ticks)
    values = SCALAR.of(*landscape.truth(space, points, np.ones(len(points))))
    best, lowest = points[int(np.argmin(values))], float(np.min(values))
    for i in np.argsort(values)[:4]:
        found = minimize(
            lambda u: true_value(space, landscape, space.point(u)),
            space.unit(points[i]),
            method="Nelder-Mead",
            options={"xatol": 1e-4, "fatol": 1e-6, "maxiter": 400},
        )
        if found.fun < lowest:
            best, lowest = space.point(found.x), float(found.fun)
    return Optimum(best, lowest, float(np.quantile(values, 0.95)))


def regrets(space: Space, landscape: Landscape, best: Optimum, trace: Trace) -> list[tuple[float, float]]:
    """(tokens spent, true relative regret of the pick) along a search; no pick yet counts as infinite."""
    cache: dict[Point, float] = {}
    out = []
    for step in trace.steps:
        if step.pick is None:
            out.append((step.spent, float("inf")))
            continue
        if step.pick not in cache:
            cache[step.pick] = true_value(space, landscape, step.pick) / best.value - 1
        out.append((step.spent, cache[step.pick]))
    return out


def settled_within(path: list[tuple[float, float]], tolerated: float) -> float:
    """Tokens after which the pick came within the tolerated regret and never left it; infinite if it did not."""
    reached = float("inf")
    for spent, regret in path:
        if regret > tolerated:
            reached = float("inf")
        elif reached == float("inf"):
            reached = spent
    return reached
