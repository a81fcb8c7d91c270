"""What a search's driver wrote down, as the plain data of its report: trials, jobs and their cost, forecasts, curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tracking.search_parts import Curve, Estimate, JobData, PredictionData, State, TrialData
from tuning.config import TuningConfig
from tuning.driver import REDONE, Driver
from tuning.history import History, Trial
from tuning.predictions import Prediction
from tuning.propose import Survey
from tuning.rungs import rung_tokens
from tuning.space import Space
from tuning.views import knobs_of


def trials_of(
    config: TuningConfig, driver: Driver, history: History, foretold: Sequence[Prediction], survey: Survey | None
) -> tuple[TrialData, ...]:
    """All trials by number, each with the forecast of its last report."""
    reasons: dict[int, list[str]] = {}
    last: dict[int, int] = {}
    for job in driver.jobs:
        reasons.setdefault(job.trial, []).append(job.reason)
        if job.number in driver.results:
            last[job.trial] = job.number
    said = {(p.job, p.metric): Estimate(mean=p.mean, sd=p.sd) for p in foretold}
    names = config.objective.domain_metric, config.objective.general_metric
    expected: dict[int, float] = {}
    if survey and config.objective.kind == "tolerance":
        beliefs = survey.beliefs
        scalar = beliefs.scalar(np.random.default_rng(0))
        values = beliefs.expected(beliefs.inputs([trial.point for trial in survey.known]), scalar)
        expected = {trial.number: float(v) for trial, v in zip(survey.known, values, strict=True)}
    return tuple(
        TrialData(
            number=trial.number,
            knobs=knobs_of(trial.point),
            seed=trial.seed,
            tokens=float(trial.tokens),
            state=_state(trial),
            reason="; ".join(dict.fromkeys(reasons[trial.number])),
            domain=_metric(trial, names[0]),
            general=_metric(trial, names[1]),
            foretold_domain=said.get((last.get(trial.number, -1), names[0])),
            foretold_general=said.get((last.get(trial.number, -1), names[1])),
            expected=expected.get(trial.number),
        )
        for trial in history.trials
    )


def _state(trial: Trial) -> State:
    if trial.diverged:
        return "diverged"
    if trial.failed:
        return "failed"
    return "running" if trial.running else "finished" if trial.finished else "paused"


def _metric(trial: Trial, name: str) -> float | None:
    value = trial.reports[-1].metrics.get(name) if trial.reports else None
    return float(value) if value is not None and math.isfinite(value) else None


def jobs_of(driver: Driver, space: Space, config: TuningConfig) -> tuple[JobData, ...]:
    """The ledger beside the decisions. What a trial trained twice stands at the last of its jobs."""
    charged, reserved = driver.ledger.charged(), driver.ledger.state().open
    last = {job.trial: job.number for job in driver.jobs}
    rows = []
    for job in driver.jobs:
        name, result = f"job {job.number}", driver.results.get(job.number)
        ends = rung_tokens(space, job.point, config.rungs)
        rows.append(
            JobData(
                number=job.number,
                trial=job.trial,
                rung=next((i for i, end in enumerate(ends) if end >= job.end * (1 - 1e-9)), len(ends) - 1),
                start=float(job.start),
                end=float(job.end),
                reserved=float(reserved.get(name, 0)),
                settled=float(charged.get(name, 0)),
                redone=_redone(charged, job.trial) if last[job.trial] == job.number else 0.0,
                state="open" if result is None else result.state,
            )
        )
    return tuple(rows)


def _redone(charged: Mapping[str, float], trial: int) -> float:
    return float(sum(tokens for name, tokens in charged.items() if name.startswith(f"{REDONE} {trial} ")))


def finite(predictions: Sequence[Prediction]) -> list[Prediction]:
    """The forecasts, without outcomes that are not finite: nothing can be held against a diverged run's metric."""
    return [
        replace(p, outcome=None) if p.outcome is not None and not math.isfinite(p.outcome) else p for p in predictions
    ]


def predictions_of(foretold: Sequence[Prediction], driver: Driver) -> tuple[PredictionData, ...]:
    """The forecasts and what came of them."""
    return tuple(
        PredictionData(
            job=p.job,
            trial=driver.jobs[p.job].trial,
            metric=p.metric,
            mean=p.mean,
            sd=p.sd,
            law=p.law,
            control=p.control,
            outcome=p.outcome,
        )
        for p in foretold
    )


def curves_of(
    bases: Mapping[str, float],
    history: History,
    curves: Mapping[int, Mapping[str, Sequence[tuple[float, float]]]],
    numbers: Sequence[int],
) -> dict[int, dict[str, Curve]]:
    """The metrics of some trials, as finely as they are known, from the base at 0 tokens on.

    Args:
        bases: metric -> the base model's.
        curves: trial -> metric -> (tokens, value) where more is known than the reports.
        numbers: the trials.
    """
    found: dict[int, dict[str, Curve]] = {}
    for number in numbers:
        trial = next(trial for trial in history.trials if trial.number == number)
        for metric, base in bases.items():
            known = list(curves.get(number, {}).get(metric, ()))
            last = known[-1][0] if known else 0.0
            known += [(r.tokens, r.metrics.get(metric, math.nan)) for r in trial.reports if r.tokens > last]
            points = [(float(tokens), float(value)) for tokens, value in known if math.isfinite(value)]
            start = [(0.0, float(base))] if not points or points[0][0] > 0 else []
            found.setdefault(number, {})[metric] = tuple(start + points)
    return found
