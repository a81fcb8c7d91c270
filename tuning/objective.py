"""What is best: the domain metric under a tolerance on the general one, or the Pareto front of both. Lower is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from ground.errors import UserError
from tuning.config import ObjectiveConfig

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scalar:
    """One number from two metrics: ``a domain + b general + penalty max(0, general - limit)``."""

    limit: float
    penalty: float
    domain_weight: float = 1.0
    general_weight: float = 0.0

    def of(self, domain: Floats, general: Floats) -> Floats:
        """The number, elementwise."""
        plain: Floats = self.domain_weight * domain + self.general_weight * general
        return plain + self.penalty * np.maximum(general - self.limit, 0)

    def expected(self, domain: tuple[Floats, Floats], general: tuple[Floats, Floats]) -> Floats:
        """Its mean when both metrics are independent and normal, given as (mean, sd)."""
        mean, sd = general
        plain: Floats = self.domain_weight * domain[0] + self.general_weight * mean
        if not self.penalty:
            return plain
        z = (mean - self.limit) / sd
        density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
        out: Floats = plain + self.penalty * sd * (density + z * ndtr(z))
        return out


def tolerance(config: ObjectiveConfig, base_general: float) -> Scalar:
    """The scalar of ``kind: tolerance``; an exact penalty, so that its minimum is the constrained one.

    Args:
        base_general: the general metric of the base model.
    """
    return Scalar(base_general + config.epsilon, config.penalty)


def weighted(share: float, domain_spread: float, general_spread: float) -> Scalar:
    """One direction of the Pareto front: both metrics over their spread, weighted ``share`` and 1 - ``share``."""
    return Scalar(np.inf, 0.0, share / domain_spread, (1 - share) / general_spread)


def check_tolerance(config: ObjectiveConfig, noise: float) -> None:
    """Refuse a tolerance that a base run could not keep by chance.

    Args:
        noise: standard deviation of the base's general metric (its standard error on the held-out set).

    Raises:
        UserError: epsilon is below it.
    """
    if config.kind == "tolerance" and config.epsilon < noise:
        raise UserError(
            "tuning.objective.epsilon",
            f"is {config.epsilon:g}, below {noise:.3g}, the standard error of the base's own {config.general_metric}",
            f"raise it above {noise:.2g} or hold out more general text",
        )


def pareto_front(domain: Sequence[float], general: Sequence[float]) -> list[int]:
    """Indices of the pairs that no other pair beats in both metrics, by rising domain metric."""
    order = sorted(range(len(domain)), key=lambda i: (domain[i], general[i]))
    front: list[int] = []
    lowest = np.inf
    for i in order:
        if general[i] < lowest:
            front.append(i)
            lowest = general[i]
    return front


def front_probability(domain: Floats, general: Floats) -> Floats:
    """Probability [n] of being on the front, from joint draws [draws, n] of both metrics."""
    better = (domain[:, :, None] < domain[:, None, :]) & (general[:, :, None] < general[:, None, :])
    out: Floats = 1 - better.any(axis=1).mean(axis=0)
    return out
