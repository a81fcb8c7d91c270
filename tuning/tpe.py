"""Optuna's TPE over the unit coordinates, for ``sampler: tpe`` and as a baseline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from tuning.space import Point, Space


class TpeSampler:
    """Points by the tree-structured Parzen estimator; the same seed, told values and number give the same point.

    Each call builds a fresh sampler seeded with (seed, number), so that nothing but what was told carries over and a resumed
    search goes on with the same points.
    """

    def __init__(self, space: Space, seed: int, directions: int = 1) -> None:
        self._space, self._seed = space, seed
        self._axes = {f"u{i}": FloatDistribution(0, 1) for i in range(space.dims)}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(directions=["minimize"] * directions)

    def tell(self, point: Point, *values: float) -> None:
        """Add a finished trial: one value, or one for each direction; lower is better."""
        params = {f"u{i}": float(u) for i, u in enumerate(self._space.unit(point))}
        self._study.add_trial(
            create_trial(params=params, distributions=dict(self._axes), values=values, state=TrialState.COMPLETE)
        )

    def ask(self, number: int) -> Point:
        """The point of proposal ``number``, among ten random ones at first (Optuna's default)."""
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True)
        before = len(self._study.trials)
        trial = self._study.ask(dict(self._axes))
        point = self._space.point(np.array([trial.params[name] for name in self._axes]))
        # Ask leaves a running trial behind; what counts is what was told.
        self._drop(before)
        return point

    def _drop(self, index: int) -> None:
        self._study.tell(index, state=TrialState.FAIL)


def told(space: Space, seed: int, points: Sequence[Point], values: Sequence[Sequence[float]]) -> TpeSampler:
    """A sampler that knows a whole history."""
    sampler = TpeSampler(space, seed, len(values[0]) if values else 1)
    for point, row in zip(points, values, strict=True):
        sampler.tell(point, *row)
    return sampler
