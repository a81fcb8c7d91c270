"""The law, the control and the null for one metric, fitted to the same trials, compared and stacked.

Each is scored by the log density it gives to every trial when all others are known. Law and control are stacked with
pseudo-BMA+ weights (Yao et al. 2018: Bayesian bootstrap over trials, so that a few lucky trials do not decide). A law that is
no better than the control gets little weight; below ``_USED`` none, and the verdict says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from ground.errors import UserError
from tuning.bayes import Data, Posterior, Predicted, Reference
from tuning.families import Family, Inputs, constant, inputs_of, quadratic
from tuning.history import Report, Trial
from tuning.space import Space

Floats = NDArray[np.float64]

_USED = 0.05
_BOOTSTRAPS = 200
_REFERENCE_POINTS = 64


@dataclass(frozen=True)
class Verdict:
    """How well the law foretells trials it has not seen."""

    law: float
    """Mean log density of a left-out trial's reports under the law, nats; likewise the two others."""
    control: float
    null: float
    weight: float
    """Of the law in the stack; the control has the rest."""

    @property
    def text(self) -> str:
        """One sentence for the report."""
        if max(self.law, self.control) <= self.null:
            return "neither law nor regression foretells a left-out trial better than the mean: no effect seen yet"
        gain = self.law - self.control
        if not self.weight:
            return f"the law is not used: it foretells left-out trials {-gain:.2f} nats worse than plain regression"
        return f"the law has weight {self.weight:.2f}: {gain:+.2f} nats per left-out trial against plain regression"


class Stack:
    """Law and control for one metric."""

    def __init__(self, space: Space, law: Family, data: Data, seed: int) -> None:
        reference = reference_of(space)
        self.law = Posterior(law, data, reference, seed)
        self.control = Posterior(quadratic(space.dims), data, reference, seed + 1)
        null = Posterior(constant(), data, reference, seed + 2)
        scores = [member.leave_one_out() for member in (self.law, self.control, null)]
        weight = _stacking_weight(scores[0], scores[1], seed + 3)
        weight = 0.0 if weight < _USED else weight
        means = [float(score.mean()) for score in scores]
        self.verdict = Verdict(means[0], means[1], means[2], weight)

    def predict(self, inputs: Inputs) -> Predicted:
        """The metric without noise, as one mixture over both members' draws."""
        weight = self.verdict.weight
        if not weight:
            return self.control.predict(inputs)
        parts = [self.law.predict(inputs), self.control.predict(inputs)]
        return Predicted(
            np.concatenate([weight * parts[0].weight, (1 - weight) * parts[1].weight]),
            np.concatenate([part.mean for part in parts]),
            np.concatenate([part.sd for part in parts]),
        )

    def sample(self, inputs: Inputs, count: int, rng: np.random.Generator) -> Floats:
        """``count`` functions from the stack, jointly over ``inputs``: [count, n]."""
        by_law = int(rng.binomial(count, self.verdict.weight))
        parts = [
            member.sample(inputs, times, rng)
            for member, times in ((self.law, by_law), (self.control, count - by_law))
            if times
        ]
        drawn: Floats = np.concatenate(parts)[rng.permutation(count)]
        return drawn

    def noise(self) -> float:
        """Standard deviation of one trial around the curve."""
        weight = self.verdict.weight
        return weight * self.law.noise() + (1 - weight) * self.control.noise()


def data_of(space: Space, trials: Sequence[Trial], metric: str) -> Data:
    """The reports of trials that carry the metric with a finite value, as arrays.

    Raises:
        UserError: no report carries it.
    """
    rows = [
        (trial, report)
        for trial in trials
        for report in thinned(trial.reports)
        if np.isfinite(report.metrics.get(metric, np.nan)) and report.tokens > 0
    ]
    if not rows:
        logged = sorted({name for trial in trials for report in trial.reports for name in report.metrics})
        raise UserError("tuning.objective", f"no trial reports a finite {metric!r}", f"use one of {', '.join(logged)}")
    return Data(
        inputs_of(space, [trial.point for trial, _ in rows], np.array([report.tokens for _, report in rows])),
        np.array([trial.number for trial, _ in rows], dtype=np.int64),
        np.array([report.metrics[metric] for _, report in rows]),
    )


def thinned(reports: Sequence[Report]) -> list[Report]:
    """The last report and, going back, each that has at most 1/1.4 of the tokens of the one kept after it: neighbours along a
    curve say the same, and a fit costs the cube of their number."""
    kept: list[Report] = []
    for report in reversed(reports):
        if not kept or report.tokens * 1.4 <= kept[-1].tokens:
            kept.append(report)
    return kept[::-1]


@lru_cache(maxsize=16)
def reference_of(space: Space) -> Reference:
    """Points all over the space at several progresses: the same for every fit."""
    spots = qmc.Sobol(space.dims + 1, rng=0).random(_REFERENCE_POINTS)
    points = [space.point(u[:-1]) for u in spots]
    progress = 4.0 ** -(1.2 * spots[:, -1])
    return Reference(inputs_of(space, points, progress * np.array([point.tokens for point in points])))


def _stacking_weight(law: Floats, control: Floats, seed: int) -> float:
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(len(law)), _BOOTSTRAPS)
    gains = len(law) * (weights @ (law - control))
    return float(np.mean(1 / (1 + np.exp(-np.clip(gains, -50, 50)))))
