"""The iso-budget surface: points (S, E, share, learning rate) whose run S x E is the run budget.

A point has free coordinates u in [0, 1]^d: log E, domain share, log learning rate (if searched), log run tokens (if cheaper
runs are allowed). S follows: S = run tokens / E, in whole sequences.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ground.errors import UserError

Floats = NDArray[np.float64]
Redraw = Literal["once", "epoch", "cycle"]


@dataclass(frozen=True)
class Point:
    """One recipe. The run is ``subset_tokens * epochs`` tokens."""

    subset_tokens: int
    epochs: float
    share: float
    learning_rate: float | None = None

    @property
    def tokens(self) -> float:
        """Tokens of the whole run."""
        return self.subset_tokens * self.epochs


@dataclass(frozen=True)
class Limits:
    """What the store and the training settings allow."""

    run_tokens: int
    """Tokens of one run, a multiple of ``step_tokens``."""
    step_tokens: int
    """Tokens of one optimiser step."""
    sequence_length: int
    domain_tokens: int
    """Training tokens of the domain source: the pool of S is taken from these."""
    general_tokens: int
    """Training tokens of all general sources."""
    max_repetition: float = 16.0
    """Largest mean number of times any source may be seen."""
    redraw: Redraw = "epoch"
    min_steps: int = 20


@dataclass(frozen=True)
class Space:
    """The feasible surface.

    Raises:
        UserError: no point is feasible, with the arithmetic.
    """

    limits: Limits
    epochs: tuple[float, float]
    share: tuple[float, float]
    learning_rate: tuple[float, float] | None = None
    cheapest: float = 1.0

    def __post_init__(self) -> None:
        problems = impossible(self)
        if problems:
            raise UserError("tuning.space", "has no feasible point: " + "; ".join(problems), "widen it or add text")

    @property
    def dims(self) -> int:
        """Number of free coordinates."""
        return 2 + (self.learning_rate is not None) + (self.cheapest < 1)

    def point(self, u: Floats) -> Point:
        """The feasible point at unit coordinates ``u`` [dims], or the nearest one by ``project``."""
        u = np.clip(u, 0, 1)
        rest = list(u[2:])
        rate = _log_between(*self.learning_rate, rest.pop(0)) if self.learning_rate else None
        tokens = self.limits.run_tokens * (_log_between(self.cheapest, 1.0, rest.pop(0)) if rest else 1.0)
        share = self.share[0] + float(u[1]) * (self.share[1] - self.share[0])
        return self.project(tokens, _log_between(*self.epochs, u[0]), share, rate)

    def project(self, tokens: float, epochs: float, share: float, rate: float | None) -> Point:
        """The nearest feasible point to any wish: tokens first, then share, then epochs are moved."""
        limits = self.limits
        least = max(self.cheapest * limits.run_tokens, limits.min_steps * limits.step_tokens)
        tokens = min(max(tokens, least), limits.run_tokens)
        steps = max(math.ceil(least / limits.step_tokens - 1e-9), round(tokens / limits.step_tokens))
        tokens = steps * limits.step_tokens
        share = min(max(share, self.share[0], lowest_share(limits, tokens)), self.share[1])
        fewest = max(self.epochs[0], tokens / limits.domain_tokens)
        share = _largest(lambda w: domain_repetition(limits.redraw, fewest, w), limits.max_repetition, share)
        epochs = min(max(epochs, fewest), max(fewest, largest_epochs(limits, share, self.epochs[1])))
        if self.learning_rate and rate is not None:
            rate = min(max(rate, self.learning_rate[0]), self.learning_rate[1])
        return Point(*_whole(limits, tokens, epochs), share, rate)

    def unit(self, point: Point) -> Floats:
        """Coordinates [dims] of a point; the inverse of ``point`` up to rounding to whole sequences."""
        u = [_log_position(*self.epochs, point.epochs), _position(*self.share, point.share)]
        if self.learning_rate:
            u.append(_log_position(*self.learning_rate, point.learning_rate or self.learning_rate[0]))
        if self.cheapest < 1:
            u.append(_log_position(self.cheapest, 1.0, point.tokens / self.limits.run_tokens))
        clipped: Floats = np.clip(np.array(u), 0, 1)
        return clipped

    def grid(self, n: int) -> list[Point]:
        """The n^dims points of an even grid over the ranges (those that project to the same point stay)."""
        ticks = np.linspace(0, 1, n)
        return [self.point(np.array(u)) for u in itertools.product(ticks, repeat=self.dims)]


def infeasible(space: Space, point: Point) -> list[str]:
    """Why a point cannot be run, each reason with its arithmetic; empty when it can."""
    limits, reasons = space.limits, []
    if point.tokens > limits.run_tokens * (1 + 1e-6):
        reasons.append(
            f"{point.subset_tokens:,} x {point.epochs:.4g} epochs = {point.tokens:,.0f} tokens > run budget "
            f"{limits.run_tokens:,}"
        )
    if point.subset_tokens > limits.domain_tokens:
        reasons.append(f"subset of {point.subset_tokens:,} tokens > {limits.domain_tokens:,} tokens of the domain")
    if point.tokens < limits.min_steps * limits.step_tokens * (1 - 1e-6):
        reasons.append(f"{point.tokens:,.0f} tokens / {limits.step_tokens:,} a step < {limits.min_steps} steps")
    seen = domain_repetition(limits.redraw, point.epochs, point.share)
    if seen > limits.max_repetition * (1 + 1e-6):
        reasons.append(
            f"{point.epochs:.4g} epochs at share {point.share:.3g} see the domain {seen:.1f} times > "
            f"{limits.max_repetition:g}"
        )
    general = (1 - point.share) * point.tokens
    if general > limits.max_repetition * limits.general_tokens * (1 + 1e-6):
        reasons.append(
            f"share {point.share:.3g} needs {general:,.0f} general tokens > {limits.max_repetition:g} x "
            f"{limits.general_tokens:,}"
        )
    return reasons


def impossible(space: Space) -> list[str]:
    """Why no point of the space can be run; empty when some can."""
    limits, reasons = space.limits, []
    least = max(space.cheapest * limits.run_tokens, limits.min_steps * limits.step_tokens)
    if least > limits.run_tokens:
        reasons.append(f"run budget {limits.run_tokens:,} tokens < {limits.min_steps} steps x {limits.step_tokens:,}")
        return reasons
    if limits.domain_tokens < limits.sequence_length:
        reasons.append(f"the domain has {limits.domain_tokens:,} tokens, less than one sequence")
        return reasons
    share = lowest_share(limits, least)
    if share > space.share[1]:
        reasons.append(
            f"{limits.max_repetition:g} x {limits.general_tokens:,} general tokens need a share >= {share:.3f} "
            f"> {space.share[1]:g}"
        )
    fewest = max(space.epochs[0], least / limits.domain_tokens)
    most = largest_epochs(limits, max(space.share[0], share), space.epochs[1])
    if fewest > most * (1 + 1e-9):
        reasons.append(
            f"{least:,.0f} tokens / {limits.domain_tokens:,} domain tokens need >= {fewest:.3g} epochs > {most:.3g}"
        )
    return reasons


def lowest_share(limits: Limits, tokens: float) -> float:
    """Smallest domain share whose general part stays within the repetition limit."""
    return max(0.0, 1 - limits.max_repetition * limits.general_tokens / tokens)


def largest_epochs(limits: Limits, share: float, high: float) -> float:
    """Most epochs, up to ``high``, whose domain repetition stays within the limit."""
    return _largest(lambda epochs: domain_repetition(limits.redraw, epochs, share), limits.max_repetition, high)


def domain_repetition(redraw: Redraw, epochs: float, share: float) -> float:
    """Times an average domain token is seen: share x E x S over the unique ones (``pipelines/plan.py``)."""
    unique = float(unique_fraction(redraw, np.asarray(epochs), np.asarray(share)))
    return share * epochs / unique if unique else 0.0


def unique_fraction(redraw: Redraw, epochs: Floats, share: Floats) -> Floats:
    """Different domain tokens seen as a fraction of S after ``epochs`` epochs (any shape; elementwise).

    once: share.  cycle: share x E until the pool is used up.  epoch: 1 - (1 - share)^E, independent draws in each epoch.
    """
    whole = np.floor(epochs)
    if redraw == "once":
        return share * np.minimum(epochs, 1)
    if redraw == "cycle":
        return np.minimum(share * epochs, 1)
    # Within an epoch draws are without replacement: the partial one misses a fraction 1 - share x (its part).
    seen: Floats = 1 - (1 - share) ** whole * (1 - share * (epochs - whole))
    return seen


def _whole(limits: Limits, tokens: float, epochs: float) -> tuple[int, float]:
    """S in whole sequences and the E that makes the run exactly ``tokens``."""
    sequences = round(tokens) // limits.sequence_length
    # Rounded up, so that rounding never repeats more than was asked for.
    pool = min(max(1, math.ceil(sequences / epochs - 1e-9)), limits.domain_tokens // limits.sequence_length)
    # The plan takes the whole part of S x E: the last digit must not cost a step.
    return pool * limits.sequence_length, (sequences + 1e-6) / pool


def _largest(repetition: Callable[[float], float], limit: float, high: float) -> float:
    """Largest x in 0..high with repetition(x) <= limit, by bisection; repetition rises with x."""
    if repetition(high) <= limit:
        return high
    low = 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if repetition(middle) <= limit else (low, middle)
    return low


def _log_between(low: float, high: float, u: float) -> float:
    return float(math.exp(math.log(low) + float(u) * (math.log(high) - math.log(low))))


def _position(low: float, high: float, value: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def _log_position(low: float, high: float, value: float) -> float:
    return _position(math.log(low), math.log(high), math.log(value))
