"""The next job: a new trial, a paused one that goes on, or the end. A function of (seed, decision number, history) alone.

Beliefs are drawn from (Thompson sampling): one draw of both metrics over candidates and known recipes. Where its lowest point
is a paused trial, or next to one, that trial goes on; where it is a finished one it gets another seed; else a new trial starts
there and runs to the first rung. One trial in three must run to its end, so that the laws see where runs end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from tuning.beliefs import Beliefs, Best, best_of
from tuning.config import TuningConfig
from tuning.history import History, Job, Result, Trial
from tuning.rungs import expected_gain, next_rung
from tuning.space import Point, Space

Floats = NDArray[np.float64]

_FRESH = 48
"""Candidates all over the space at each decision, and around the best ones."""
_NEAR = 40
_DRAWS = 32
_CLOSE = 0.06
"""Distance in unit coordinates below which two recipes are one: less than the width of an optimum within 1 % in the
landscapes."""
_SHUNNED = 0.12
"""Distance from a recipe that diverged below which nothing is tried."""
_FINISHED = 1 / 3
"""Part of the trials that must run to the end; below it a paused one goes on."""
_ENOUGH = 0.45
"""Part above which a draw next to a paused trial starts a new one instead: noise averages over trials, not over tokens."""


@dataclass(frozen=True)
class Stop:
    """No further job, and why."""

    reason: str


@dataclass(frozen=True)
class Survey:
    """What the results of a round say."""

    beliefs: Beliefs
    known: list[Trial]
    """Trials with reports that did not fail."""
    points: list[Point]
    """Of ``known``, then candidates."""
    units: Floats
    """[points, d] their coordinates."""
    draws: Floats
    """[draws, points] of the objective at the end of the run."""
    best: Best | None
    gain: float
    """Expected gain of everything left over the best; infinite before a trial has finished."""


@dataclass(frozen=True)
class Decision:
    """What to do next and what it rests on."""

    action: Job | Stop
    survey: Survey | None
    """None during the first design."""


class Planner:
    """Decides. Keeps the last survey, which depends on the results alone, so that a round of decisions shares it.

    Args:
        base_general: the general metric of the base model.
        first: recipes to start with besides the published ones.
    """

    def __init__(self, space: Space, config: TuningConfig, base_general: float, first: Sequence[Point] = ()) -> None:
        self._space, self._config, self._base = space, config, base_general
        self._design = first_design(space, config, first)
        self._first = min(len(first), len(self._design))
        self._last: tuple[tuple[Result, ...], Survey | None] | None = None

    def decide(self, history: History, number: int, affordable: float) -> Decision:
        """Decision ``number``.

        Args:
            history: what this decision may know (``tuning/history.py::visible``).
            affordable: tokens of the budget that are neither settled nor reserved.
        """
        config, started = self._config, len(history.trials)
        known = sum(trial.finished and not trial.failed for trial in history.earlier)
        # What earlier searches know need not be asked again.
        if started < max(self._first, len(self._design) - known):
            job = _start(self._space, config, history, number, self._design[started], "first design")
            return Decision(_first_within(_held(self._space, config, history, [job], affordable), affordable), None)
        survey = self.survey(history)
        if survey is None:
            return Decision(Stop("no trial has given a result"), None)
        least = config.patience * survey.beliefs.noise()
        if history.finished and len(history.finished) + known >= config.initial and survey.gain < least:
            return Decision(Stop(f"expected gain {survey.gain:.2g} is below {config.patience:g} x the noise"), survey)
        jobs = _choices(self._space, config, history, number, survey)
        return Decision(_first_within(_held(self._space, config, history, jobs, affordable), affordable), survey)

    def survey(self, history: History) -> Survey | None:
        """What the results say; None when no trial has reported."""
        if self._last is None or self._last[0] != history.results:
            seen = History(history.results, earlier=history.earlier)
            self._last = (history.results, _survey(self._space, self._config, seen, self._base))
        return self._last[1]


def _survey(space: Space, config: TuningConfig, history: History, base: float) -> Survey | None:
    known = [trial for trial in history.trials if not trial.failed and trial.reports]
    tried = [trial.point for trial in (*known, *history.earlier) if not trial.failed and trial.reports]
    if not tried:
        return None
    rng = np.random.default_rng([config.seed, len(history.results)])
    beliefs = Beliefs(space, config.objective, history, base, config.seed)
    scalar = beliefs.scalar(rng)
    expected = beliefs.expected(beliefs.inputs(tried), scalar)
    best_first = [tried[i] for i in np.argsort(expected)[:4]]
    points = [trial.point for trial in known] + _candidates(space, best_first, rng)
    points += [point for point in best_first if point not in points]  # of earlier searches
    at = beliefs.inputs(points)
    draws = beliefs.sample(at, scalar, _DRAWS, rng)
    ended = [i for i, trial in enumerate(known) if trial.finished]
    if not ended:
        return Survey(beliefs, known, points, at.unit, draws, None, float("inf"))
    best = best_of([known[i] for i in ended], expected[ended], draws[:, ended])
    pick = next(i for i in ended if known[i].number == best.trial)
    return Survey(beliefs, known, points, at.unit, draws, best, expected_gain(draws[:, pick], draws))


def paper_recipes(space: Space) -> list[Point]:
    """The published answers on this surface: Guo et al. 2024 (4 epochs, share 0.82), CMR 2024's share at one such run (0.35),
    both at the middle of the learning rates."""
    rate = float(np.exp(np.mean(np.log(space.learning_rate)))) if space.learning_rate else None
    run = space.limits.run_tokens
    return [space.project(run, 4, 0.82, rate), space.project(run, 4, 0.35, rate)]


def first_design(space: Space, config: TuningConfig, first: Sequence[Point] = ()) -> list[Point]:
    """Points of the first trials: ``first``, the published ones, then a scrambled Sobol sequence."""
    known = [*first, *paper_recipes(space)][: config.initial]
    rest = qmc.Sobol(space.dims, rng=config.seed).random(max(config.initial, 8))
    return [*known, *(space.point(u) for u in rest)][: config.initial]


def _choices(space: Space, config: TuningConfig, history: History, number: int, survey: Survey) -> list[Job]:
    """Jobs in the order of preference; later ones are for when the budget does not reach for the first."""
    known = survey.known
    draw = survey.draws[number % len(survey.draws)]
    paused = {trial.number for trial in history.paused}
    waiting = [i for i, trial in enumerate(known) if trial.number in paused]
    waiting.sort(key=lambda i: float(draw[i]))
    promotions = [_go_on(space, config, number, known[i], "best of the paused") for i in waiting]
    running = [trial for trial in history.trials if trial.running]
    ended = len(history.finished) + sum(trial.tokens > 0 for trial in running)
    if waiting and ended < _FINISHED * len(history.trials):
        return promotions
    tried = _units(space, history.trials)
    busy = np.array([trial.running for trial in history.trials], dtype=bool)
    diverged = _units(space, [trial for trial in (*history.trials, *history.earlier) if trial.diverged])
    for i in np.argsort(draw).tolist():
        apart = np.linalg.norm(tried - survey.units[i], axis=1)
        if (np.linalg.norm(diverged - survey.units[i], axis=1) < _SHUNNED).any():
            continue
        # What is running already shall not be started again beside itself.
        if busy.any() and apart[busy].min() < _CLOSE:
            continue
        near = [j for j in waiting if np.linalg.norm(survey.units[i] - survey.units[j]) < _CLOSE]
        if near and ended < _ENOUGH * len(history.trials):
            return [_go_on(space, config, number, known[near[0]], "the laws' draw is lowest here"), *promotions]
        if np.sum(apart < _CLOSE / 2) < config.replicates:
            reason = "another seed" if i < len(known) else "the laws' draw is lowest here"
            return [_start(space, config, history, number, survey.points[i], reason), *promotions]
    return promotions


def _units(space: Space, trials: Sequence[Trial]) -> Floats:
    """Coordinates [trials, d]."""
    return np.array([space.unit(trial.point) for trial in trials]).reshape(-1, space.dims)


def _held(space: Space, config: TuningConfig, history: History, jobs: Sequence[Job], affordable: float) -> list[Job]:
    """While no trial has finished, tokens are held back for the end of the most advanced one: a search on a small budget must
    not end without a recipe. No job at all: that trial is running, and the rest is for it."""
    begun = [trial for trial in history.trials if not trial.failed and (trial.tokens or trial.running)]
    if history.finished or not begun or not jobs:
        return list(jobs)
    heading = {job.trial: job.end for job in history.pending}
    reach = {trial.number: max(trial.tokens, heading.get(trial.number, 0)) for trial in begun}
    ahead = max(begun, key=lambda trial: (reach[trial.number], -trial.number))
    need = ahead.point.tokens - reach[ahead.number]
    if jobs[0].trial == ahead.number or affordable - (jobs[0].end - jobs[0].start) >= need:
        return list(jobs)
    if ahead.running:
        return []
    return [_go_on(space, config, jobs[0].number, ahead, "the budget is held for its end"), *jobs]


def _candidates(space: Space, best: Sequence[Point], rng: np.random.Generator) -> list[Point]:
    fresh = qmc.Sobol(space.dims, rng=rng).random(64)[:_FRESH]
    centres = np.array([space.unit(point) for point in best])
    near = centres[np.arange(_NEAR) % len(centres)]
    # Widths from a fifth of the space to a hundredth, one coordinate or all.
    width = 0.2 * 0.05 ** rng.random((_NEAR, 1)) * (rng.random((_NEAR, space.dims)) < 0.7)
    return [space.point(u) for u in [*fresh, *(near + width * rng.standard_normal(near.shape))]]


def _start(space: Space, config: TuningConfig, history: History, number: int, point: Point, reason: str) -> Job:
    trial = len(history.trials)
    end = next_rung(space, point, config.rungs, 0)
    assert end is not None
    return Job(number, trial, point, config.seed * 1_000_003 + trial, 0, end, reason)


def _go_on(space: Space, config: TuningConfig, number: int, trial: Trial, reason: str) -> Job:
    end = next_rung(space, trial.point, config.rungs, trial.tokens)
    assert end is not None
    return Job(number, trial.number, trial.point, trial.seed, trial.tokens, end, reason)


def _first_within(jobs: Sequence[Job], affordable: float) -> Job | Stop:
    for job in jobs:
        if job.end - job.start <= affordable:
            return job
    least = min((job.end - job.start for job in jobs), default=0)
    return Stop(
        f"{affordable:,.0f} tokens are left, the next job needs {least:,.0f}" if jobs else "nothing is left to start"
    )
