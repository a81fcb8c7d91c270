"""Every prediction beside its later outcome: what a report at a job's end was expected to be, and what it was."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tuning.config import ObjectiveConfig
from tuning.families import inputs_of
from tuning.history import Job, Result
from tuning.laws import Stack
from tuning.propose import Survey
from tuning.space import Point, Space


@dataclass(frozen=True)
class Prediction:
    """What was foretold of a report, and what came."""

    job: int
    metric: str
    tokens: float
    mean: float
    sd: float
    """Of the report to come: curve and noise."""
    law: float
    """The law's own mean, whatever its weight."""
    control: float
    weight: float
    """Of the law in the stack."""
    outcome: float | None = None

    @property
    def z(self) -> float | None:
        """Surprise in standard deviations, when the outcome is known."""
        return None if self.outcome is None else (self.outcome - self.mean) / self.sd


@dataclass(frozen=True)
class Calibration:
    """How good the predictions of one metric were."""

    count: int
    rmse: float
    rmse_law: float
    rmse_control: float
    inside_95: float
    """Share of outcomes within 1.96 standard deviations; 0.95 when the error bars are right."""


def foretell(survey: Survey, space: Space, config: ObjectiveConfig, job: Job) -> list[Prediction]:
    """Predictions of both metrics at the end of a job: to be logged before it starts."""
    beliefs = survey.beliefs
    pairs = ((config.domain_metric, beliefs.domain), (config.general_metric, beliefs.general))
    return [_foretell(stack, space, metric, job.number, job.point, job.end) for metric, stack in pairs]


def with_outcomes(predictions: Iterable[Prediction], results: Sequence[Result]) -> list[Prediction]:
    """The predictions with the last report of their jobs filled in, where there is one at the tokens foretold."""
    last = {result.job.number: result.reports[-1] for result in results if result.reports}
    filled = []
    for prediction in predictions:
        report = last.get(prediction.job)
        known = report is not None and report.tokens >= prediction.tokens * (1 - 1e-9)
        filled.append(
            replace(prediction, outcome=report.metrics.get(prediction.metric)) if report and known else prediction
        )
    return filled


def calibration(predictions: Sequence[Prediction], metric: str) -> Calibration | None:
    """How good the predictions of a metric were; None before the first outcome."""
    rows = [(p, p.outcome) for p in predictions if p.metric == metric and p.outcome is not None]
    if not rows:
        return None
    outcome = np.array([value for _, value in rows])

    def rmse(values: list[float]) -> float:
        return float(np.sqrt(np.mean((np.array(values) - outcome) ** 2)))

    inside = np.abs(np.array([p.mean for p, _ in rows]) - outcome) <= 1.96 * np.array([p.sd for p, _ in rows])
    return Calibration(
        len(rows),
        rmse([p.mean for p, _ in rows]),
        rmse([p.law for p, _ in rows]),
        rmse([p.control for p, _ in rows]),
        float(np.mean(inside)),
    )


def _foretell(stack: Stack, space: Space, metric: str, job: int, point: Point, tokens: float) -> Prediction:
    at = inputs_of(space, [point], np.array([tokens]))
    mean, sd = stack.predict(at).moments()
    law, control = (float(member.predict(at).moments()[0][0]) for member in (stack.law, stack.control))
    whole = float(np.hypot(sd[0], stack.noise()))
    return Prediction(job, metric, tokens, float(mean[0]), whole, law, control, stack.verdict.weight)
