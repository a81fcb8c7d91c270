"""Fits: exact where they can be checked, honest about noise, and open about a law that does not fit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from tuning.bayes import Data, Posterior
from tuning.families import REPEAT_SCALE, constant, domain_law, effective_tokens, inputs_of, quadratic
from tuning.history import Report
from tuning.landscapes import LANDSCAPES, landscape_space
from tuning.laws import Stack, reference_of, thinned
from tuning.proxy import enlarged
from tuning.space import Point, unique_fraction

SPACE = landscape_space()


def spread_points(count: int, seed: int) -> list[Point]:
    rng = np.random.default_rng(seed)
    return [SPACE.point(u) for u in rng.random((count, SPACE.dims))]


def reported(points: list[Point], noise: float, seed: int) -> Data:
    """Two reports of each point on the first landscape."""
    landscape = replace(LANDSCAPES[0], noise=noise)
    values, tokens = [], []
    for number, point in enumerate(points):
        domain, _ = landscape.observe(SPACE, point, np.array([0.25, 1.0]), seed + number)
        values += list(domain)
        tokens += [0.25 * point.tokens, point.tokens]
    twice = [point for point in points for _ in range(2)]
    return Data(inputs_of(SPACE, twice, np.array(tokens)), np.repeat(np.arange(len(points)), 2), np.array(values))


def test_effective_tokens_are_the_published_ones() -> None:
    """Value of k epochs per token seen: 0.984, 0.958, 0.931, 0.853, 0.596 at 2, 3, 4, 7, 20 epochs (Muennighoff et al. 2023)."""
    epochs = np.array([1.0, 2, 3, 4, 7, 20])
    worth = effective_tokens(epochs, np.ones(6), REPEAT_SCALE) / epochs
    assert worth == pytest.approx([1, 0.984, 0.958, 0.931, 0.853, 0.596], abs=6e-4)


def test_unique_tokens_are_those_of_the_paper() -> None:
    """4.1 of 5 B tokens redrawn each epoch: 4.10, 4.84, 4.97, 4.995 B after epochs 1 to 4."""
    unique = 5 * unique_fraction("epoch", np.arange(1.0, 5), np.full(4, 0.82))
    assert unique == pytest.approx([4.10, 4.838, 4.971, 4.995], abs=1e-3)
    assert unique_fraction("once", np.array([0.5, 3]), np.array([0.4, 0.4])) == pytest.approx([0.2, 0.4])
    assert unique_fraction("cycle", np.array([2, 3]), np.array([0.4, 0.4])) == pytest.approx([0.8, 1])


def test_leave_one_out_is_what_refitting_gives() -> None:
    """The closed form against the definition, with one draw of the hyper-parameters."""
    data = reported(spread_points(5, 1), 0.004, 0)
    posterior = Posterior(constant(), data, reference_of(SPACE), 0)
    draws = posterior._draws.take(np.array([0]))
    posterior._draws, posterior.weights = draws, np.ones(1)
    covariance = draws.chol[0] @ draws.chol[0].T
    left = (data.values - data.values.mean()) / np.std(data.values)
    expected = []
    for trial in range(5):
        mine = data.trial == trial
        cross = np.linalg.solve(covariance[np.ix_(~mine, ~mine)], covariance[np.ix_(~mine, mine)])
        mean = cross.T @ left[~mine]
        spread = covariance[np.ix_(mine, mine)] - covariance[np.ix_(mine, ~mine)] @ cross
        expected.append(multivariate_normal(mean, spread).logpdf(left[mine]) - 2 * np.log(np.std(data.values)))
    assert posterior.leave_one_out() == pytest.approx(expected, abs=1e-6)


def test_the_law_foretells_the_end_of_unseen_runs() -> None:
    """From 14 noisy trials: errors of unseen recipes well below their spread, and error bars that mean something."""
    data = reported(spread_points(14, 2), 0.004, 50)
    unseen = spread_points(60, 3)
    truth, _ = LANDSCAPES[0].truth(SPACE, unseen, np.ones(60))
    stack = Stack(SPACE, domain_law(), data, seed=0)
    mean, sd = stack.predict(inputs_of(SPACE, unseen)).moments()
    assert np.sqrt(np.mean((mean - truth) ** 2)) < 0.35 * truth.std()
    assert np.mean(np.abs(mean - truth) < 2 * sd) > 0.85
    assert 0.001 < stack.noise() / truth.mean() < 0.012
    draws = stack.sample(inputs_of(SPACE, unseen[:5]), 400, np.random.default_rng(0))
    assert draws.mean(axis=0) == pytest.approx(mean[:5], abs=0.03)
    assert stack.verdict.law > stack.verdict.null
    again = Stack(SPACE, domain_law(), data, seed=0).predict(inputs_of(SPACE, unseen)).moments()
    assert np.array_equal(again[0], mean)


def test_a_law_that_does_not_fit_is_not_used() -> None:
    """A metric that follows waves and no law: the control is as good, and the verdict says so."""
    points = spread_points(40, 4)
    u = np.array([SPACE.unit(point) for point in points])
    values = 2 + 0.2 * np.sign(u[:, 0] - 0.5) * np.sign(u[:, 1] - 0.5) + 0.4 * (u[:, 2] - 0.5) ** 2
    stack = Stack(SPACE, domain_law(), Data(inputs_of(SPACE, points), np.arange(40), values), seed=0)
    assert stack.verdict.weight < 0.5
    assert "regression" in stack.verdict.text


def test_noise_alone_is_called_so() -> None:
    values = 2 + 0.004 * np.random.default_rng(5).standard_normal(30)
    data = Data(inputs_of(SPACE, spread_points(30, 6)), np.arange(30), values)
    verdict = Stack(SPACE, domain_law(), data, seed=0).verdict
    assert max(verdict.law, verdict.control) - verdict.null < 0.1


def test_extrapolation_to_a_longer_run_is_more_uncertain() -> None:
    """Error bars grow beyond the run budget: a run of eight times the tokens at the same recipes."""
    data = reported(spread_points(14, 2), 0.004, 50)
    stack = Stack(SPACE, domain_law(), data, seed=0)
    points = spread_points(20, 7)
    here = inputs_of(SPACE, points)
    there = inputs_of(SPACE, [enlarged(point, 8, 2000, 10**11) for point in points])
    near, far = stack.law.predict(here).moments(), stack.law.predict(there).moments()
    assert np.mean(far[1]) > 1.2 * np.mean(near[1])
    assert np.mean(far[0]) < np.mean(near[0])


def test_dense_curves_are_thinned_but_rungs_and_the_end_stay() -> None:
    dense = [Report(float(tokens), {}) for tokens in range(1, 1001)]
    kept = [report.tokens for report in thinned(dense)]
    assert kept[-1] == 1000
    assert len(kept) < 21
    assert all(later >= 1.4 * earlier for earlier, later in pairwise(kept))
    rungs = [Report(tokens, {}) for tokens in (0.25, 0.5, 1.0)]
    assert thinned(rungs) == rungs


def test_the_control_has_every_pair_of_coordinates() -> None:
    family = quadratic(3)
    terms = family.features(np.zeros((1, 0)), inputs_of(SPACE, spread_points(3, 8)))
    assert terms.shape == (1, 3, 4 + 10) == (1, 3, len(family.prior_mean))
