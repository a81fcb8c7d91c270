"""Regression with honest error bars for few, noisy trials: a law's linear coefficients are integrated out exactly, its
exponents and the noise are drawn from priors and weighted by evidence.

For exponents theta:   y = Phi(theta) a + r(x) + trial effect + noise
    a ~ N(m, c^2)            coefficients of the law's terms, prior mean m from the law's signs
    r ~ GP(0, s^2)           what the law misses (squared exponential over the unit coordinates and log progress)
    trial effect, noise      one offset for all reports of a trial, and one for each report
so that y given theta is normal and everything about it is closed form (Rasmussen & Williams 2006, 2.7 and 5.4.2). The draws
of theta come from two rounds of population Monte Carlo: the prior, then kernels around the best of it (Cappe et al. 2004,
deterministic-mixture weights). Nothing is optimised, so the result depends on the data and seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

from tuning.families import Family, Inputs

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_DRAWS = 20
"""Draws of theta in each of the two rounds."""
_KERNELS = (0.5,)
"""Width of the kernels of each later round, in prior standard deviations. A third round (0.3) made no difference to searches."""
_MASS = 0.97
"""Weight of the draws that are kept."""
_NOISE_LATENTS = 5
_INTERCEPT_SD = 3.0


@dataclass(frozen=True)
class Data:
    """Reports of trials."""

    inputs: Inputs
    """[n] what was run."""
    trial: Ints
    """[n] number of the trial that reported."""
    values: Floats
    """[n] the metric."""


@dataclass(frozen=True)
class _Scales:
    """Hyper-parameters of each draw, in units of the standardised metric; all [draws, 1, 1]."""

    coefficient: Floats
    residual: Floats
    length: Floats
    trial: Floats
    noise: Floats

    def take(self, index: Ints) -> _Scales:
        return _Scales(*(getattr(self, field)[index] for field in self.__dataclass_fields__))


@dataclass(frozen=True)
class _Draws:
    """Draws of theta with the fit of each; first axis: draws."""

    theta: Floats
    scales: _Scales
    features: Floats
    """[draws, n, terms]"""
    chol: Floats
    """[draws, n, n] of the reports' covariance."""
    alpha: Floats
    """[draws, n] covariance^-1 (y - prior mean)."""
    log_evidence: Floats

    def take(self, index: Ints) -> _Draws:
        return _Draws(
            self.theta[index], self.scales.take(index), self.features[index], self.chol[index], self.alpha[index],
            self.log_evidence[index],
        )  # fmt: skip


def _joined(left: _Draws, right: _Draws, index: Ints) -> _Draws:
    """The draws of ``index`` in the row of both."""
    split = len(left.theta)
    one, two = left.take(index[index < split]), right.take(index[index >= split] - split)
    scales = _Scales(
        *(np.concatenate([getattr(one.scales, f), getattr(two.scales, f)]) for f in one.scales.__dataclass_fields__)
    )
    parts = [np.concatenate([getattr(one, f), getattr(two, f)]) for f in ("features", "chol", "alpha", "log_evidence")]
    return _Draws(np.concatenate([one.theta, two.theta]), scales, *parts)


class Reference:
    """Points that stand for the whole space: features are centred and scaled over them, so that priors mean the same whatever
    was tried so far."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._cache: dict[tuple[str, tuple[int, ...], bytes], tuple[Floats, Floats]] = {}

    def moments(self, family: Family, theta: Floats) -> tuple[Floats, Floats]:
        """Mean and spread [draws, 1, terms] of the features. Draws of the prior come again at every fit and are kept."""
        key = (family.name, theta.shape, theta.tobytes())
        if key in self._cache:
            return self._cache[key]
        raw = family.features(theta, self._inputs)
        # Scaled by their spread over the space, but never blown up where they hardly vary.
        moments = raw.mean(axis=1, keepdims=True), np.maximum(raw.std(axis=1, keepdims=True), 1e-3)
        if len(self._cache) < 64:
            self._cache[key] = moments
        return moments


@dataclass(frozen=True)
class Predicted:
    """Normal mixture over the draws of theta."""

    weight: Floats
    """[draws]"""
    mean: Floats
    """[draws, n]"""
    sd: Floats
    """[draws, n] of the law's value, trial effect and noise left out."""

    def moments(self) -> tuple[Floats, Floats]:
        """Mean and standard deviation [n] of the mixture."""
        mean = self.weight @ self.mean
        return mean, np.sqrt(np.maximum(self.weight @ (self.sd**2 + self.mean**2) - mean**2, 1e-18))


class Posterior:
    """A family fitted to data.

    Args:
        reference: of the space.
        seed: of the draws.
    """

    def __init__(self, family: Family, data: Data, reference: Reference, seed: int) -> None:
        self.family, self._data, self._reference = family, data, reference
        self._level = float(np.mean(data.values))
        # Few equal values say nothing of the spread: a thousandth of the level is the least.
        self._scale = max(float(np.std(data.values)), 1e-3 * abs(self._level), 1e-12)
        self._y = (data.values - self._level) / self._scale
        self._same = (data.trial[:, None] == data.trial[None, :]).astype(float)
        self._distance = _squared_distances(data.inputs, data.inputs)
        rng = np.random.default_rng(seed)
        size = family.latents + _NOISE_LATENTS
        count = _DRAWS if family.latents else _DRAWS // 2
        first = rng.standard_normal((count, size))
        first[0] = 0  # the published constants themselves
        draws, latents = self._fit(first), first
        kernels: list[Floats] = []
        for width in _KERNELS:
            top = latents[np.argsort(-(draws.log_evidence - 0.5 * np.sum(latents**2, axis=1)))[:4]]
            kernels.append(top)
            more = top[rng.integers(len(top), size=count)] + width * rng.standard_normal((count, size))
            latents = np.concatenate([latents, more])
            draws = _joined(draws, self._fit(more), np.arange(len(latents)))
        logs = draws.log_evidence + _log_importance(latents, kernels)
        weights = np.exp(logs - logsumexp(logs))
        order = np.argsort(-weights)
        kept = np.sort(order[: int(np.searchsorted(np.cumsum(weights[order]), _MASS)) + 1])
        self._draws = draws.take(kept)
        self.weights: Floats = weights[kept] / weights[kept].sum()

    def predict(self, inputs: Inputs) -> Predicted:
        """The law's value at any points and progress, as a mixture over the draws."""
        _, mean, prior, half = self._conditional(self._draws, inputs)
        variance = np.maximum(prior - np.sum(half**2, axis=1), 1e-12)
        return Predicted(self.weights, mean * self._scale + self._level, np.sqrt(variance) * self._scale)

    def sample(self, inputs: Inputs, count: int, rng: np.random.Generator) -> Floats:
        """``count`` functions drawn from the posterior, jointly over ``inputs``: [count, n], in random order."""
        counts = rng.multinomial(count, self.weights / self.weights.sum())
        draws = self._draws.take(np.flatnonzero(counts))
        features, mean, _, half = self._conditional(draws, inputs)
        prior = _prior_covariance(features, features, _squared_distances(inputs, inputs), draws.scales)
        covariance = prior - half.transpose(0, 2, 1) @ half + 1e-6 * np.eye(mean.shape[1])
        chol = np.linalg.cholesky(covariance)
        parts = [
            mean[i] + rng.standard_normal((times, mean.shape[1])) @ chol[i].T
            for i, times in enumerate(counts[counts > 0].tolist())
        ]
        drawn: Floats = np.concatenate(parts)[rng.permutation(count)] * self._scale + self._level
        return drawn

    def noise(self) -> float:
        """Standard deviation of one trial's last report around the law's value."""
        variance = (self._draws.scales.trial**2 + self._draws.scales.noise**2)[:, 0, 0]
        return float(np.sqrt(self.weights @ variance)) * self._scale

    def leave_one_out(self) -> Floats:
        """Log predictive density [trials] of each trial's reports given all the others (draws reweighted for each)."""
        inverse = np.linalg.inv(self._draws.chol)
        precision: Floats = inverse.transpose(0, 2, 1) @ inverse
        groups = [np.flatnonzero(self._data.trial == trial) for trial in np.unique(self._data.trial)]
        each = np.empty((len(self.weights), len(groups)))
        for size in {len(group) for group in groups}:
            mine = [i for i, group in enumerate(groups) if len(group) == size]
            rows = np.array([groups[i] for i in mine])
            blocks = precision[:, rows[:, :, None], rows[:, None, :]]
            each[:, mine] = _group_densities(blocks, self._draws.alpha[:, rows]) - size * np.log(self._scale)
        # p(y_g | rest) = 1 / sum_j W_j / p_j(y_g | rest), for weights W given all the data.
        out: Floats = -logsumexp(np.log(self.weights + 1e-300)[:, None] - each, axis=0)
        return out

    def _fit(self, latent: Floats) -> _Draws:
        theta = latent[:, : self.family.latents]
        scales = self._scales(latent[:, self.family.latents :])
        features = self._features(theta, self._data.inputs)
        n = len(self._y)
        covariance = _prior_covariance(features, features, self._distance, scales)
        covariance = covariance + scales.trial**2 * self._same + (scales.noise**2 + 1e-6) * np.eye(n)
        chol = np.linalg.cholesky(covariance)
        left = self._y - features @ self.family.prior_mean
        alpha = np.linalg.solve(covariance, left[:, :, None])[:, :, 0]
        logdet = 2 * np.log(np.diagonal(chol, axis1=1, axis2=2)).sum(axis=1)
        evidence = -0.5 * (np.sum(left * alpha, axis=1) + logdet + n * np.log(2 * np.pi))
        return _Draws(theta, scales, features, chol, alpha, evidence)

    def _conditional(self, draws: _Draws, inputs: Inputs) -> tuple[Floats, Floats, Floats, Floats]:
        """Features [draws, n, terms], mean and prior variance [draws, n], half of what the data explain [draws, data, n]; in
        standardised units."""
        features = self._features(draws.theta, inputs)
        cross = _prior_covariance(draws.features, features, _squared_distances(self._data.inputs, inputs), draws.scales)
        pairs = zip(draws.chol, cross, strict=True)
        half = np.array([solve_triangular(chol, part, lower=True, check_finite=False) for chol, part in pairs])
        mean = features @ self.family.prior_mean + np.einsum("jdn,jd->jn", cross, draws.alpha)
        scales = draws.scales
        prior = (scales.coefficient**2)[:, 0] * np.sum(features**2, axis=2) + (scales.residual**2)[:, 0]
        return features, mean, prior + _INTERCEPT_SD**2, half

    def _features(self, theta: Floats, inputs: Inputs) -> Floats:
        centre, spread = self._reference.moments(self.family, theta)
        scaled: Floats = (self.family.features(theta, inputs) - centre) / spread
        return scaled

    def _scales(self, z: Floats) -> _Scales:
        """Log-normal priors. Noise of a trial: 0.4 % of the metric (runs that differ in the seed alone); of a report: 0.15 %.
        A metric around zero, of which a percentage says nothing: 2 % of its spread."""
        relative = max(abs(self._level) / self._scale, 5.0)
        z = z[:, :, None, None]
        return _Scales(
            coefficient=np.exp(0.4 * z[:, 0]) * self.family.coefficient,
            residual=np.exp(0.7 * z[:, 1]) * self.family.residual,
            length=0.6 * np.exp(0.4 * z[:, 2]),
            trial=0.004 * relative * np.exp(0.6 * z[:, 3]),
            noise=0.0015 * relative * np.exp(0.6 * z[:, 4]),
        )


def _prior_covariance(left: Floats, right: Floats, distance: Floats, scales: _Scales) -> Floats:
    residual = scales.residual**2 * np.exp(-0.5 * distance / scales.length**2)
    whole: Floats = _INTERCEPT_SD**2 + scales.coefficient**2 * (left @ right.transpose(0, 2, 1)) + residual
    return whole


def _group_densities(precision: Floats, alpha: Floats) -> Floats:
    """Log densities [draws, groups] of left-out groups of one size k: residual P^-1 alpha, covariance P^-1, for the blocks P
    [draws, groups, k, k] of the inverse covariance."""
    _, logdet = np.linalg.slogdet(precision)
    fit = np.sum(alpha * np.linalg.solve(precision, alpha[..., None])[..., 0], axis=-1)
    out: Floats = 0.5 * (logdet - fit - alpha.shape[-1] * np.log(2 * np.pi))
    return out


def _squared_distances(left: Inputs, right: Inputs) -> Floats:
    """[n, m] over unit coordinates and log4 progress."""
    a = np.column_stack([left.unit, left.log_progress])
    b = np.column_stack([right.unit, right.log_progress])
    out: Floats = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T, 0)
    return out


def _log_importance(latents: Floats, kernels: Sequence[Floats]) -> Floats:
    """log prior - log proposal of every draw, for the equal mixture of the prior and each round's kernels."""
    size = latents.shape[1]
    prior = -0.5 * np.sum(latents**2, axis=1)
    parts = [prior]
    for width, top in zip(_KERNELS, kernels, strict=True):
        squared = np.sum((latents[:, None] - top[None]) ** 2, axis=2) / width**2
        parts.append(logsumexp(-0.5 * squared, axis=1) - np.log(len(top)) - size * np.log(width))
    out: Floats = prior - (logsumexp(parts, axis=0) - np.log(len(parts)))
    return out
