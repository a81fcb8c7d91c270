"""From small to large: finalists at a fraction of the run, their expectation at the whole, and how well ranks kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import spearmanr

from ground.errors import UserError
from tuning.beliefs import Beliefs
from tuning.objective import Scalar
from tuning.propose import Survey
from tuning.space import Point


@dataclass(frozen=True)
class Finalist:
    """A recipe to confirm at the larger run."""

    trial: int
    point: Point
    """At the run of the search."""
    large: Point
    """The same epochs, share and rate at the larger run."""
    expected: float
    """Objective at the search's run, noise taken out."""
    extrapolated: float
    """Objective at the larger run by the laws fitted to the small ones, an extrapolation."""
    sd: float
    """Of the extrapolated domain metric: it grows with the distance."""


def enlarged(point: Point, factor: float, sequence_length: int, domain_tokens: int) -> Point:
    """The recipe at ``factor`` times the tokens: a larger subset, the same epochs, so that repetition stays the same.

    Raises:
        UserError: the subset would pass the domain's tokens.
    """
    subset = round(point.subset_tokens * factor / sequence_length) * sequence_length
    if subset > domain_tokens:
        raise UserError(
            "tuning.run_budget",
            f"asks for a subset of {subset:,} tokens at {factor:g} times the run, the domain has {domain_tokens:,}",
            "confirm at a smaller run or add text",
        )
    return replace(point, subset_tokens=subset)


def finalists(survey: Survey, scalar: Scalar, count: int, factor: float, domain_tokens: int) -> list[Finalist]:
    """The ``count`` different finished recipes with the lowest expectation, at ``factor`` times the run.

    Args:
        domain_tokens: of the store that the larger run reads.

    Raises:
        UserError: a subset would pass the domain's tokens.
    """
    beliefs = survey.beliefs
    first = {trial.point: trial for trial in reversed(beliefs.history.finished)}
    points = list(first)
    if not points:
        return []
    expected = beliefs.expected(beliefs.inputs(points), scalar)
    length = beliefs.space.limits.sequence_length
    out = []
    for i in np.argsort(expected)[:count].tolist():
        large = enlarged(points[i], factor, length, domain_tokens)
        there, sd = _at(beliefs, large, scalar)
        out.append(Finalist(first[points[i]].number, points[i], large, float(expected[i]), there, sd))
    return out


def rank_correlation(small: Sequence[float], large: Sequence[float]) -> float | None:
    """Spearman's correlation of the objective at both runs; None with fewer than three recipes or equal values."""
    if len(small) < 3 or len(set(small)) == 1 or len(set(large)) == 1:
        return None
    return float(spearmanr(small, large).statistic)


def _at(beliefs: Beliefs, point: Point, scalar: Scalar) -> tuple[float, float]:
    at = beliefs.inputs([point])
    return float(beliefs.expected(at, scalar)[0]), float(beliefs.domain.predict(at).moments()[1][0])
