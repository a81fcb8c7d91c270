"""Analytic landscapes: what training would report if the published laws, or something a little else, were true.

Each gives two metrics for any point at any progress. They share published terms (Muennighoff et al. 2023, CMR 2024, D-CPT 2024)
and differ in what is best and in how far they are from the family that the search fits: couplings, thresholds, ripples and
exponents that no law of ``tuning/families.py`` has. A loss in nats; the base model stands at ``BASE``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tuning.families import annealing, effective_tokens
from tuning.space import Limits, Point, Space, unique_fraction

Floats = NDArray[np.float64]

BASE = (3.0, 2.5)
"""Domain and general loss of the base model."""
_NOISE_GRID = np.linspace(0, 1, 33)


@dataclass(frozen=True)
class Landscape:
    """One truth. Domain = base - gain(effective tokens) + quality + rate + annealing; general = base + forgetting - replay.

    Rates are natural logarithms over the middle of the range; tokens are fractions of the run.
    """

    name: str
    text: str
    """What is special about it."""
    gain: float = 1.35
    bend: float = 0.04
    exponent: float = 0.3526596
    repeat_scale: float = 15.387756
    quality: float = 0.02
    """Rise of the domain loss for each e-fold of the subset."""
    quality_cliff: float = 0.0
    """Rise where the subset passes a fifth of the run: good text ends there."""
    overfit: float = 0.0
    """Rise with the square of the repetitions over 8 (Guo et al. 2024 see the small subset overfit)."""
    share_gain: float = 0.25
    share_power: float = 0.5
    forgetting: float = 0.16
    forgetting_power: float = 2.0
    replay: float = 0.05
    edge: float = 0.01
    """Cost of the last general tokens: C / (1 - w + 0.03)^0.7."""
    rate_curvature: float = 0.05
    best_rate: float = 0.3
    rate_by_epochs: float = 0.0
    """Shift of the best rate for each e-fold of epochs."""
    rate_forgets: float = 0.35
    anneal: float = 0.06
    anneal_by_rate: float = 0.5
    share_by_quality: float = 0.0
    """Coupling of share and subset that no fitted law has."""
    ripple: float = 0.0
    """Height of a wave over share and log epochs."""
    noise: float = 0.004
    """Standard deviation between seeds, relative to the loss."""

    def truth(self, space: Space, points: Sequence[Point], progress: Floats) -> tuple[Floats, Floats]:
        """Domain and general loss [n] without noise."""
        run = np.array([point.tokens for point in points]) / space.limits.run_tokens
        subset = np.array([point.subset_tokens for point in points]) / space.limits.run_tokens
        share = np.array([point.share for point in points])
        middle = np.mean(np.log(space.learning_rate)) if space.learning_rate else 0.0
        rate = np.array([np.log(p.learning_rate) - middle if p.learning_rate else 0.0 for p in points])
        return self._losses(run * progress, subset, share, rate, progress, run / subset, space.limits)

    def _losses(
        self,
        tokens: Floats,
        subset: Floats,
        share: Floats,
        rate: Floats,
        progress: Floats,
        epochs: Floats,
        limits: Limits,
    ) -> tuple[Floats, Floats]:
        unique = subset * unique_fraction(limits.redraw, tokens / subset, share)
        seen = share * tokens
        worth = effective_tokens(seen, unique, self.repeat_scale)
        repeats = np.maximum(seen / np.maximum(unique, 1e-12) - 1, 0)
        learned = 1 - (1 + worth / self.bend) ** -self.exponent
        begun = 1 - np.exp(-progress / 0.1)
        left = self.anneal * annealing(progress) * np.exp(self.anneal_by_rate * rate) * begun
        off = rate - self.best_rate - self.rate_by_epochs * np.log(epochs / 4)
        size = np.log(16 * subset)
        domain = BASE[0] - self.gain * learned - self.share_gain * share**self.share_power * begun
        domain = domain + begun * (self.quality * size + self.quality_cliff / (1 + np.exp(-6 * (np.log(5 * subset)))))
        domain = domain + self.overfit * (repeats / 8) ** 2 + self.rate_curvature * begun * off**2 + left
        domain = domain + begun * self.share_by_quality * (share - 0.5) * (size - 1.4)
        domain = domain + begun * self.ripple * np.sin(9 * share + 1) * np.sin(2.5 * np.log(epochs))
        grown = np.log1p(progress / 0.02) / np.log1p(1 / 0.02)
        forgotten = self.forgetting * share**self.forgetting_power * grown * np.exp(self.rate_forgets * rate)
        kept = self.replay * (1 - (1 + (1 - share) * tokens / self.bend) ** -self.exponent)
        scarce = self.edge * grown * ((1 - share + 0.03) ** -0.7 - 1)
        return domain, BASE[1] + forgotten - kept + scarce + left

    def noise_of(self, seed: int) -> tuple[Floats, Floats]:
        """Relative noise of both metrics on an even grid of 33 progresses: an offset of the trial (four fifths of the variance)
        and a part that drifts along it with a correlation length of 0.2."""
        rng = np.random.default_rng(seed)
        step = np.exp(-1 / 32 / 0.2)
        drift = rng.standard_normal((2, 33))
        for i in range(1, 33):
            drift[:, i] = step * drift[:, i - 1] + np.sqrt(1 - step**2) * drift[:, i]
        offset = rng.standard_normal(2)
        whole = self.noise * (np.sqrt(0.8) * offset[:, None] + np.sqrt(0.2) * drift)
        return whole[0], whole[1]

    def observe(self, space: Space, point: Point, progress: Floats, seed: int) -> tuple[Floats, Floats]:
        """What a run with this seed reports at each progress [n]; equal seeds give one coherent curve."""
        domain, general = self.truth(space, [point] * len(progress), progress)
        noise = [np.interp(progress, _NOISE_GRID, path) for path in self.noise_of(seed)]
        return domain * (1 + noise[0]), general * (1 + noise[1])


_TYPICAL = Landscape("paper", "the published terms; a share of 0.82 is best", forgetting=0.077)

LANDSCAPES = (
    _TYPICAL,
    replace(
        _TYPICAL, name="cmr", text="strong forgetting; a share of 0.40 is best", forgetting=0.357, forgetting_power=1.6
    ),
    replace(
        _TYPICAL,
        name="random subset",
        text="no quality effect: the largest subset is best; noise of 1 %",
        quality=0.0,
        noise=0.006,
    ),
    replace(
        _TYPICAL,
        name="coupled",
        text="rate and epochs, share and subset are coupled, small subsets overfit, other exponents",
        exponent=0.6,
        repeat_scale=6.0,
        overfit=0.08,
        rate_by_epochs=-0.5,
        share_by_quality=0.25,
        forgetting=0.13,
        forgetting_power=3.0,
    ),
    replace(
        _TYPICAL,
        name="crossing",
        text="high rates look bad until the end",
        anneal=0.2,
        anneal_by_rate=0.9,
        best_rate=0.9,
        rate_curvature=0.08,
        forgetting=0.15,
        noise=0.006,
    ),
    replace(
        _TYPICAL,
        name="cliff",
        text="good text ends at a fifth of the run, and a wave over share and epochs",
        quality=0.02,
        quality_cliff=0.25,
        ripple=0.02,
        forgetting=0.2,
    ),
)


def landscape_space() -> Space:
    """The space of all landscapes: epochs, share and learning rate at 2 B tokens a run, steps of 1 M tokens."""
    limits = Limits(
        run_tokens=2_000_000_000,
        step_tokens=1_000_000,
        sequence_length=2_000,
        domain_tokens=2_000_000_000,
        general_tokens=20_000_000_000,
    )
    return Space(limits, epochs=(1, 16), share=(0.1, 1), learning_rate=(3e-5, 1e-3))
