"""Rungs: where trials report, which paused trial goes on, when the whole search may end. Pure functions of the history."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tuning.history import History, Trial
from tuning.space import Point, Space

Floats = NDArray[np.float64]


def rung_tokens(space: Space, point: Point, rungs: Sequence[float]) -> list[int]:
    """Tokens of each rung of a point's run, in whole steps; the last is the end of the run."""
    step = space.limits.step_tokens
    steps = int(point.tokens / step + 1e-6)
    return [max(1, min(steps, round(rung * steps))) * step for rung in rungs]


def next_rung(space: Space, point: Point, rungs: Sequence[float], tokens: float) -> int | None:
    """The first rung after ``tokens``; None at the end of the run."""
    later = [rung for rung in rung_tokens(space, point, rungs) if rung > tokens * (1 + 1e-9)]
    return later[0] if later else None


def value_at(space: Space, trial: Trial, rung: float, rungs: Sequence[float], values: Sequence[float]) -> float | None:
    """The trial's value at a rung, given the values of its reports; None when it has not been there."""
    tokens = rung_tokens(space, trial.point, rungs)[list(rungs).index(rung)]
    there = [v for report, v in zip(trial.reports, values, strict=True) if report.tokens >= tokens * (1 - 1e-9)]
    return there[0] if there else None


def asha_promotable(
    space: Space, history: History, rungs: Sequence[float], values: dict[int, list[float]], factor: float
) -> Trial | None:
    """The trial to promote by the rule of ASHA (Li et al. 2020): in the best 1/``factor`` of its rung and not yet promoted,
    looking from the highest rung down.

    Args:
        values: objective of each report, by trial; lower is better.
    """
    paused = {trial.number for trial in history.paused}
    for rung in reversed(rungs[:-1]):
        there = [
            (value, trial)
            for trial in history.trials
            if not trial.failed and (value := value_at(space, trial, rung, rungs, values[trial.number])) is not None
        ]
        top = sorted(there, key=lambda pair: (pair[0], pair[1].number))[: int(len(there) / factor)]
        for _, trial in top:
            here = rung_tokens(space, trial.point, rungs)[list(rungs).index(rung)]
            if trial.number in paused and trial.tokens <= here * (1 + 1e-9):
                return trial
    return None


def expected_gain(best: Floats, draws: Floats) -> float:
    """How much lower the objective could still get: mean over joint draws of best's value minus the lowest of all.

    Args:
        best: [draws] the objective of the present pick.
        draws: [draws, candidates] of everything that could be tried, from the same draws.
    """
    return float(np.mean(np.maximum(best - draws.min(axis=1), 0)))
