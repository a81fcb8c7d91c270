"""The laws as regression families: published terms whose exponents have priors around the published values.

domain    repeated data: D' = U + U R* (1 - e^(-R/R*)), R = D/U - 1, loss ~ D'^-beta (Muennighoff et al. 2023: R* 15.39, beta
          0.353); the part of continued pre-training starts from a trained model, hence (1 + D'/D0)^-beta.
          share: L(R) = alpha R^s + beta (CMR 2024). Quality: best-first subsets lose quality as they grow, linear in log S and
          as worth of a token (S / run)^-kappa.
general   forgetting w^s, rising with log tokens; replay (1 + D_general/D0)^-b; C / (1 - w + eps)^g (D-CPT 2024).
both      learning rate: linear and quadratic in its logarithm, coupled to the gain; the part of a cosine still to anneal lifts
          the loss, more so at high rates (Wang et al. 2025).
quadratic the control: a plain second-order regression (RegMix's idea with few trials).
constant  the null: progress and noise alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuning.space import Point, Redraw, Space, unique_fraction

Floats = NDArray[np.float64]

REPEAT_SCALE = 15.387756
"""R_D* of Muennighoff et al. 2023."""
DATA_EXPONENT = 0.3526596
"""beta of the same fit."""


@dataclass(frozen=True)
class Inputs:
    """Points at a progress, as arrays [n]."""

    unit: Floats
    """[n, d] coordinates on the surface."""
    subset: Floats
    """S as a fraction of ``scale``."""
    tokens: Floats
    """Tokens seen as a fraction of ``scale``."""
    run: Floats
    """Tokens of the whole run as a fraction of ``scale``."""
    share: Floats
    log_rate: Floats
    """Natural logarithm of the learning rate over the middle of its range; 0 when it is not searched."""
    redraw: Redraw

    @property
    def progress(self) -> Floats:
        """Tokens seen over tokens of the run."""
        return self.tokens / self.run

    @property
    def log_progress(self) -> Floats:
        """Logarithm to base 4 of the progress: 0 at the end, -1 at a quarter."""
        out: Floats = np.log(self.progress) / np.log(4)
        return out


def inputs_of(space: Space, points: Sequence[Point], tokens: Floats | None = None) -> Inputs:
    """Points at so many tokens seen ([n]; absent: at the end of their runs)."""
    scale = space.limits.run_tokens
    run = np.array([point.tokens for point in points])
    seen = run if tokens is None else np.asarray(tokens, dtype=float)
    middle = np.mean(np.log(space.learning_rate)) if space.learning_rate else 0.0
    rates = [np.log(p.learning_rate) - middle if space.learning_rate and p.learning_rate else 0.0 for p in points]
    return Inputs(
        unit=np.array([space.unit(point) for point in points]),
        subset=np.array([point.subset_tokens for point in points]) / scale,
        tokens=seen / scale,
        run=run / scale,
        share=np.array([point.share for point in points]),
        log_rate=np.array(rates),
        redraw=space.limits.redraw,
    )


@dataclass(frozen=True)
class Family:
    """A set of terms linear in their coefficients.

    Invariant: ``features(theta, inputs)`` is [draws, n, terms] for theta [draws, latents] that is standard normal a priori.
    """

    name: str
    latents: int
    features: Callable[[Floats, Inputs], Floats]
    prior_mean: Floats
    """[terms] of the standardised coefficients: the law's signs."""
    coefficient: float
    """Prior spread of the standardised coefficients."""
    residual: float
    """Prior spread of what the terms miss, in standard deviations of the metric."""


def effective_tokens(seen: Floats, unique: Floats, repeat_scale: float) -> Floats:
    """D' of ``seen`` tokens of which ``unique`` are different (Muennighoff et al. 2023, eq. 5); same unit as given."""
    unique = np.maximum(unique, 1e-12)
    repeats = np.maximum(seen / unique - 1, 0)
    out: Floats = unique + unique * repeat_scale * (1 - np.exp(-repeats / repeat_scale))
    return np.minimum(out, np.maximum(seen, unique))


def annealing(progress: Floats) -> Floats:
    """Part of the peak rate that a cosine to zero still has: 1 at the start, 0 at the end."""
    return 0.5 * (1 + np.cos(np.pi * np.clip(progress, 0, 1)))


def _domain_terms(theta: Floats, at: Inputs) -> Floats:
    z = theta.T[:, :, None]
    beta = DATA_EXPONENT * np.exp(0.3 * z[0])
    repeat_scale = REPEAT_SCALE * np.exp(0.7 * z[1])
    bend = 0.05 * np.exp(1.2 * z[2])
    kappa = 0.15 * np.exp(0.8 * z[3])
    power = 0.5 * np.exp(0.5 * z[4])
    steep = 0.7 * np.exp(0.5 * z[5])
    seen = at.share * at.tokens
    unique = at.subset * unique_fraction(at.redraw, at.tokens / at.subset, at.share)
    worth = effective_tokens(seen, unique, repeat_scale) * at.subset**-kappa
    gain = 1 - (1 + worth / bend) ** -beta
    repeats = np.maximum(seen / np.maximum(unique, 1e-12) - 1, 0)
    rate, left = at.log_rate, annealing(at.progress)
    return _terms(gain, np.log(at.subset), at.share**power, repeats / (repeats + repeat_scale), (repeats / 8) ** 2,
                  rate, rate**2, rate * gain, left, left * np.exp(steep * rate))  # fmt: skip


def _general_terms(theta: Floats, at: Inputs) -> Floats:
    z = theta.T[:, :, None]
    power = np.exp(0.5 * z[0] + 0.3)
    start = 0.05 * np.exp(1.0 * z[1])
    bend = 0.05 * np.exp(1.2 * z[2])
    beta = DATA_EXPONENT * np.exp(0.3 * z[3])
    edge = 0.05 * np.exp(0.7 * z[4])
    g = 0.5 * np.exp(0.5 * z[5])
    steep = 0.7 * np.exp(0.5 * z[6])
    forgotten = at.share**power
    grown = np.log1p(at.tokens / start) / np.log1p(1 / start)
    replay = 1 - (1 + (1 - at.share) * at.tokens / bend) ** -beta
    scarce = (1 - at.share + edge) ** -g
    rate, left, epochs = at.log_rate, annealing(at.progress), np.log(at.run / at.subset)
    return _terms(forgotten, forgotten * grown, replay, scarce, epochs, epochs * forgotten,
                  rate, rate**2, rate * forgotten, left, left * np.exp(steep * rate))  # fmt: skip


def _quadratic_terms(theta: Floats, at: Inputs) -> Floats:
    x = np.column_stack([2 * at.unit - 1, at.log_progress])
    pairs = [x[:, i] * x[:, j] for i in range(x.shape[1]) for j in range(i, x.shape[1])]
    return np.broadcast_to(np.column_stack([x, *pairs]), (len(theta), len(x), x.shape[1] + len(pairs)))


def _constant_terms(theta: Floats, at: Inputs) -> Floats:
    return np.broadcast_to(at.log_progress[:, None], (len(theta), len(at.run), 1))


def _terms(*columns: Floats) -> Floats:
    """[draws, n] and [n] columns as one [draws, n, terms]."""
    return np.stack(np.broadcast_arrays(*columns), axis=-1)


def domain_law() -> Family:
    """Repeated data, quality and share: the domain metric."""
    return Family("domain law", 6, _domain_terms, np.array([-0.5, 0.2, -0.2, 0.1, 0.05, 0, 0.2, 0, 0.1, 0]), 1.0, 0.12)


def general_law() -> Family:
    """Forgetting and replay: the general metric."""
    mean = np.array([0.3, 0.2, -0.3, 0.2, 0, 0, 0.2, 0.05, 0.1, 0.1, 0])
    return Family("general law", 7, _general_terms, mean, 1.0, 0.12)


def quadratic(dims: int) -> Family:
    """Second-order regression with a Gaussian-process residual: the control."""
    inputs = dims + 1
    return Family("quadratic", 0, _quadratic_terms, np.zeros(inputs + inputs * (inputs + 1) // 2), 0.5, 0.4)


def constant() -> Family:
    """Progress alone: what no recipe makes a difference to."""
    return Family("constant", 0, _constant_terms, np.zeros(1), 1.0, 1e-3)
