"""What the search believes after its trials: both metrics' stacks, the objective's expectation, the pick and its confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuning.config import ObjectiveConfig
from tuning.families import Inputs, domain_law, general_law, inputs_of
from tuning.history import History, Trial
from tuning.laws import Stack, data_of
from tuning.objective import Scalar, front_probability, pareto_front, tolerance, weighted
from tuning.space import Point, Space

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Best:
    """The recipe to hand over, and how sure it is."""

    trial: int
    point: Point
    value: float
    """Expected objective at the end of the run, noise taken out."""
    sd: float
    probability: float
    """That no other finished recipe is better."""
    rivals: tuple[int, ...]
    """Finished trials that are better with a probability of a tenth or more."""


class Beliefs:
    """Stacks fitted to everything in a history.

    Args:
        base_general: the general metric of the base model, for the tolerance.
        seed: of the fits; equal histories and seeds give equal beliefs.
    """

    def __init__(self, space: Space, config: ObjectiveConfig, history: History, base_general: float, seed: int) -> None:
        self.space, self.history, self._config, self._base = space, history, config, base_general
        trials = [trial for trial in (*history.trials, *history.earlier) if trial.reports]
        data = data_of(space, trials, config.domain_metric), data_of(space, trials, config.general_metric)
        self.domain = Stack(space, domain_law(), data[0], seed)
        self.general = Stack(space, general_law(), data[1], seed + 10)

    def scalar(self, rng: np.random.Generator) -> Scalar:
        """The number to lower: the tolerance's, or a random direction of the Pareto front (as in ParEGO, Knowles 2006)."""
        if self._config.kind == "tolerance":
            return tolerance(self._config, self._base)
        at = self.inputs([trial.point for trial in (*self.history.trials, *self.history.earlier)])
        spread = [max(float(np.std(s.predict(at).moments()[0])), 1e-6) for s in (self.domain, self.general)]
        return weighted(float(rng.uniform(0.05, 0.95)), *spread)

    def inputs(self, points: Sequence[Point]) -> Inputs:
        """Points at the end of their runs."""
        return inputs_of(self.space, points)

    def expected(self, at: Inputs, scalar: Scalar) -> Floats:
        """Expected objective [n], without noise."""
        return scalar.expected(self.domain.predict(at).moments(), self.general.predict(at).moments())

    def sample(self, at: Inputs, scalar: Scalar, count: int, rng: np.random.Generator) -> Floats:
        """Joint draws [count, n] of the objective."""
        return scalar.of(self.domain.sample(at, count, rng), self.general.sample(at, count, rng))

    def noise(self) -> float:
        """Standard deviation of one trial's objective at the tolerance: the domain's noise."""
        return self.domain.noise()


def best_of(trials: Sequence[Trial], expected: Floats, draws: Floats) -> Best:
    """The trial with the lowest expected objective.

    Args:
        expected: [trials]
        draws: [draws, trials] of the objective, jointly.
    """
    pick = int(np.argmin(expected))
    same = [i for i, trial in enumerate(trials) if trial.point == trials[pick].point]
    better = np.mean(draws < draws[:, [pick]] - 1e-9, axis=0)
    rivals = [trials[i].number for i in range(len(trials)) if i not in same and better[i] >= 0.1]
    others = np.array([i not in same for i in range(len(trials))])
    beaten = (draws[:, others] < draws[:, [pick]]).any(axis=1) if others.any() else np.zeros(len(draws), dtype=bool)
    return Best(
        trials[pick].number,
        trials[pick].point,
        float(expected[pick]),
        float(np.std(draws[:, pick])),
        float(1 - beaten.mean()),
        tuple(rivals),
    )


@dataclass(frozen=True)
class FrontPoint:
    """A finished recipe on the Pareto front of expectations."""

    trial: int
    point: Point
    domain: float
    domain_sd: float
    general: float
    general_sd: float
    probability: float
    """That no other finished recipe beats it in both metrics."""


def front_of(beliefs: Beliefs, rng: np.random.Generator, draws: int = 200) -> list[FrontPoint]:
    """The front of the finished trials, noise taken out, by rising domain metric; empty before one has finished."""
    trials = beliefs.history.finished
    if not trials:
        return []
    at = beliefs.inputs([trial.point for trial in trials])
    domain, general = beliefs.domain.predict(at).moments(), beliefs.general.predict(at).moments()
    likely = front_probability(beliefs.domain.sample(at, draws, rng), beliefs.general.sample(at, draws, rng))
    return [
        FrontPoint(
            trials[i].number,
            trials[i].point,
            float(domain[0][i]),
            float(domain[1][i]),
            float(general[0][i]),
            float(general[1][i]),
            float(likely[i]),
        )
        for i in pareto_front(domain[0].tolist(), general[0].tolist())
    ]
