"""The search without laws: Optuna's TPE or random points, promoted by ASHA's rule. For ``sampler: tpe`` and ``random``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import qmc

from tuning.config import TuningConfig
from tuning.history import History, Job, Trial
from tuning.objective import tolerance
from tuning.propose import Decision, Planner, Stop, first_design
from tuning.rungs import asha_promotable, next_rung
from tuning.space import Point, Space

_FACTOR = 2.0
"""Half of a rung goes on, as the default rungs double."""


def planner_of(
    space: Space, config: TuningConfig, base_general: float, first: Sequence[Point] = ()
) -> Planner | PlainPlanner:
    """The planner of ``config.sampler``; arguments as for ``Planner``."""
    kind = Planner if config.sampler == "laws" else PlainPlanner
    return kind(space, config, base_general, first)


class PlainPlanner:
    """Decides like ``tuning/propose.py::Planner``, by observed values alone.

    Args:
        base_general: the general metric of the base model.
        first: recipes to start with besides the published ones.
    """

    def __init__(self, space: Space, config: TuningConfig, base_general: float, first: Sequence[Point] = ()) -> None:
        self._space, self._config, self._base = space, config, base_general
        self._design = first_design(space, config, first)

    def decide(self, history: History, number: int, affordable: float) -> Decision:
        """Decision ``number``; arguments as for ``Planner.decide``."""
        values = {trial.number: [row[0] for row in self._values(trial)] for trial in history.trials}
        chosen = asha_promotable(self._space, history, self._config.rungs, values, _FACTOR)
        seed = self._config.seed * 1_000_003
        if chosen is None:
            trial, start = len(history.trials), 0.0
            point, reason = self._point(history, trial), "first design"
            reason = reason if trial < len(self._design) else self._config.sampler
        else:
            trial, start, point, reason = chosen.number, chosen.tokens, chosen.point, "best of its rung"
        end = next_rung(self._space, point, self._config.rungs, start)
        assert end is not None
        if end - start > affordable:
            return Decision(Stop(f"{affordable:,.0f} tokens are left, the next job needs {end - start:,.0f}"), None)
        return Decision(Job(number, trial, point, seed + trial, start, end, reason), None)

    def _point(self, history: History, trial: int) -> Point:
        if trial < len(self._design):
            return self._design[trial]
        if self._config.sampler == "random":
            block = qmc.Sobol(self._space.dims, rng=self._config.seed + 1 + trial // 64).random(64)
            return self._space.point(block[trial % 64])
        from tuning.tpe import told  # Optuna takes a second to import

        ended = [*(trial for trial in history.earlier if trial.finished and not trial.failed), *history.finished]
        rows = [self._values(t)[-1] for t in ended]
        pareto = self._config.objective.kind == "pareto"
        rows = [row[1:] if pareto else row[:1] for row in rows]
        return told(self._space, self._config.seed, [t.point for t in ended], rows).ask(trial)

    def _values(self, trial: Trial) -> list[list[float]]:
        """Objective, domain and general metric of each report."""
        config = self._config.objective
        scalar = tolerance(config, self._base)
        rows = []
        for report in trial.reports:
            domain, general = report.metrics[config.domain_metric], report.metrics[config.general_metric]
            rows.append([float(scalar.of(np.asarray(domain), np.asarray(general))), domain, general])
        return rows
