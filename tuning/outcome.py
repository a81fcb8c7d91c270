"""A search, over or not, as the plain data of its report. Reads the driver's records and the beliefs fitted to them; no files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from tracking.redact import redact
from tracking.search_data import SearchData
from tracking.search_parts import BestData, Estimate, Finalist, FitData, FrontPoint
from tuning import proxy
from tuning.beliefs import Beliefs, best_of, front_of
from tuning.best_recipe import best_recipe, shares_of
from tuning.config import TuningConfig
from tuning.driver import Driver
from tuning.objective import Scalar, tolerance, weighted
from tuning.outlook import outlook, picks
from tuning.plain import PlainPlanner
from tuning.predictions import Prediction, calibration, with_outcomes
from tuning.propose import Planner, Survey
from tuning.records import curves_of, finite, jobs_of, predictions_of, trials_of
from tuning.space import Space
from tuning.views import critical_share, estimates, knobs_of, maps, share_curves

Floats = NDArray[np.float64]

_SAFE = 0.9
"""Probability of keeping the tolerance from which a recipe is called safe."""
_DRAWS = 1000
"""Joint draws behind the probabilities: their third digit is not printed."""


@dataclass(frozen=True)
class Setting:
    """What was searched, and from where."""

    title: str
    created: str
    """Date and time, as it shall be printed."""
    space: Space
    config: TuningConfig
    base: tuple[float, float]
    """Domain and general metric of the base model."""
    domain: Mapping[str, float]
    """Domain source -> proportion within the domain's share; any positive numbers."""
    general: Mapping[str, float]
    """General source -> proportion within the rest; empty when there is none."""
    recipe: Mapping[str, Any]
    """The resolved recipe as plain values; ``tuning`` and ``runs`` may be in it and are left out of ``best.yaml``."""
    unit: str = "nats per token"
    """Of both metrics."""


@dataclass(frozen=True)
class Confirmed:
    """A finalist and what the larger run gave; None: it was not run."""

    finalist: proxy.Finalist
    domain: float | None
    general: float | None


def build_search_data(
    setting: Setting,
    driver: Driver,
    planner: Planner | PlainPlanner,
    *,
    reason: str | None,
    seconds: float,
    curves: Mapping[int, Mapping[str, Sequence[tuple[float, float]]]] | None = None,
    confirmed: Sequence[Confirmed] = (),
) -> SearchData:
    """Everything the report of a search shows.

    Args:
        planner: that decided. Without laws (``sampler: tpe`` or ``random``) they are fitted here, for the report alone.
        reason: why the search ended; None while it goes on.
        seconds: wall clock of the search, all its sessions.
        curves: trial -> metric -> (tokens, value) for smoother gap curves than the reports at the rungs give.
        confirmed: finalists at the larger run.

    Raises:
        UserError: no report carries a metric of the objective.
    """
    space, config, history = setting.space, setting.config, driver.history()
    laws = planner if isinstance(planner, Planner) else Planner(space, config, setting.base[1])
    survey = laws.survey(history)
    foretold = finite(with_outcomes(driver.predictions, history.results))
    jobs, account = jobs_of(driver, space, config), driver.ledger.state()
    data = SearchData(
        title=setting.title,
        created=setting.created,
        unit=setting.unit,
        kind=config.objective.kind,
        sampler=config.sampler,
        select=setting.recipe.get("mixture", {}).get("select", "quality"),
        seed=config.seed,
        domain_metric=config.objective.domain_metric,
        general_metric=config.objective.general_metric,
        base_domain=float(setting.base[0]),
        base_general=float(setting.base[1]),
        epsilon=float(config.objective.epsilon),
        penalty=float(config.objective.penalty),
        budget=float(account.budget),
        run_tokens=space.limits.run_tokens,
        step_tokens=space.limits.step_tokens,
        sequence_length=space.limits.sequence_length,
        ranges=_ranges(space),
        rungs=tuple(map(float, config.rungs)),
        settled=float(account.settled),
        reserved=float(account.reserved),
        seconds=float(seconds),
        device_seconds=float(account.device_seconds),
        reason=reason or "",
        earlier=len(history.earlier),
        trials=trials_of(config, driver, history, foretold, survey),
        jobs=jobs,
        predictions=predictions_of(foretold, driver),
    )
    if survey is None:
        return data
    return _with_beliefs(data, setting, driver, planner, survey, foretold, curves or {}, confirmed)


def _with_beliefs(
    data: SearchData,
    setting: Setting,
    driver: Driver,
    planner: Planner | PlainPlanner,
    survey: Survey,
    foretold: Sequence[Prediction],
    curves: Mapping[int, Mapping[str, Sequence[tuple[float, float]]]],
    confirmed: Sequence[Confirmed],
) -> SearchData:
    space, config, beliefs, history = setting.space, setting.config, survey.beliefs, driver.history()
    scalar, aimed = _scalar(setting, beliefs), config.objective.kind == "tolerance"
    metrics = ((data.domain_metric, beliefs.domain), (data.general_metric, beliefs.general))
    fits = []
    for metric, stack in metrics:
        judged = calibration(foretold, metric)
        fit = FitData(
            metric=metric, weight=stack.verdict.weight, verdict=stack.verdict.text, noise=float(stack.noise())
        )
        if judged:
            fit = replace(fit, count=judged.count, rmse=judged.rmse, rmse_law=judged.rmse_law,
                          rmse_control=judged.rmse_control, inside_95=judged.inside_95)  # fmt: skip
        fits.append(fit)
    more = data.budget - data.settled - data.reserved + data.budget
    data = replace(
        data,
        fits=tuple(fits),
        next=outlook(planner.decide, config, survey, scalar, history, len(driver.jobs), more),
        finalists=tuple(_finalist(one, scalar) for one in confirmed),
        rank_correlation=_ranks(confirmed, scalar),
    )
    if not beliefs.history.finished:
        return data
    best, worst = _best(setting, beliefs, scalar)
    point = next(trial.point for trial in history.trials if trial.number == best.trial)
    spent = np.cumsum([job.settled + job.redone for job in data.jobs])
    order = [result.job.number for result in history.results]
    curve, _ = share_curves(beliefs, point, metrics)
    data = replace(
        data,
        best=best,
        worst=worst,
        front=_front(beliefs, config),
        maps=maps(beliefs, scalar if aimed else None, point),
        share_curves=curve,
        critical=critical_share(beliefs, point, data.limit) if aimed else None,
        curves=curves_of(_bases(data), history, curves, [best.trial] if worst is None else [best.trial, worst]),
        picks=picks(space, config, setting.base[1], history.results, [spent[n] for n in order], beliefs, scalar)
        if aimed
        else (),
    )
    return replace(data, recipe=redact(best_recipe(setting.recipe, data)))


def _bases(data: SearchData) -> dict[str, float]:
    return {data.domain_metric: data.base_domain, data.general_metric: data.base_general}


def _scalar(setting: Setting, beliefs: Beliefs) -> Scalar:
    """The objective; for a Pareto search both metrics over their spread in equal parts, which picks its balanced recipe."""
    if setting.config.objective.kind == "tolerance":
        return tolerance(setting.config.objective, setting.base[1])
    at = beliefs.inputs([trial.point for trial in beliefs.history.trials])
    stacks = (beliefs.domain, beliefs.general)
    return weighted(0.5, *(max(float(np.std(stack.predict(at).moments()[0])), 1e-6) for stack in stacks))


def _best(setting: Setting, beliefs: Beliefs, scalar: Scalar) -> tuple[BestData, int | None]:
    """The best and the number of the worst finished trial, None when there is one recipe only."""
    trials = beliefs.history.finished
    at = beliefs.inputs([trial.point for trial in trials])
    expected = beliefs.expected(at, scalar)
    draws = beliefs.sample(at, scalar, _DRAWS, np.random.default_rng([setting.config.seed, 1]))
    best = best_of(trials, expected, draws)
    pick = next(i for i, trial in enumerate(trials) if trial.number == best.trial)
    better = {trial.number: float(np.mean(draws[:, i] < draws[:, pick])) for i, trial in enumerate(trials)}
    domain, general = (estimates(stack, beliefs, [best.point])[0] for stack in (beliefs.domain, beliefs.general))
    aimed = setting.config.objective.kind == "tolerance"
    limit = setting.base[1] + setting.config.objective.epsilon
    front = {} if aimed else {point.trial: point.probability for point in _front(beliefs, setting.config)}
    data = BestData(
        trial=best.trial,
        knobs=knobs_of(best.point),
        shares=shares_of(best.point.share, setting.domain, setting.general),
        value=Estimate(mean=best.value, sd=best.sd) if aimed else domain,
        domain=domain,
        general=general,
        probability=best.probability if aimed else front.get(best.trial, best.probability),
        within=float(ndtr((limit - general.mean) / max(general.sd, 1e-12))) if aimed else None,
        rivals=tuple(sorted(best.rivals, key=lambda number: (-better[number], number))),
        seeds=sum(trial.point == best.point for trial in trials),
        safe=_safe(beliefs, expected, limit) if aimed else None,
    )
    worst = trials[int(np.argmax(expected))]
    return data, None if worst.point == best.point else worst.number


def _safe(beliefs: Beliefs, expected: Floats, limit: float) -> int | None:
    trials = beliefs.history.finished
    mean, sd = beliefs.general.predict(beliefs.inputs([trial.point for trial in trials])).moments()
    kept = np.flatnonzero(ndtr((limit - mean) / np.maximum(sd, 1e-12)) >= _SAFE)
    return trials[int(kept[np.argmin(expected[kept])])].number if len(kept) else None


def _front(beliefs: Beliefs, config: TuningConfig) -> tuple[FrontPoint, ...]:
    return tuple(
        FrontPoint(
            trial=point.trial,
            domain=Estimate(mean=point.domain, sd=point.domain_sd),
            general=Estimate(mean=point.general, sd=point.general_sd),
            probability=point.probability,
        )
        for point in front_of(beliefs, np.random.default_rng([config.seed, 3]), _DRAWS // 4)
    )


def _finalist(one: Confirmed, scalar: Scalar) -> Finalist:
    finalist = one.finalist
    return Finalist(
        trial=finalist.trial,
        knobs=knobs_of(finalist.large),
        small=finalist.expected,
        foretold=Estimate(mean=finalist.extrapolated, sd=finalist.sd),
        domain=one.domain,
        general=one.general,
        value=_objective(one, scalar),
    )


def _objective(one: Confirmed, scalar: Scalar) -> float | None:
    if one.domain is None or one.general is None:
        return None
    return float(scalar.of(np.asarray(one.domain), np.asarray(one.general)))


def _ranks(confirmed: Sequence[Confirmed], scalar: Scalar) -> float | None:
    pairs = [(one.finalist.expected, _objective(one, scalar)) for one in confirmed]
    both = [(small, large) for small, large in pairs if large is not None]
    found = proxy.rank_correlation([small for small, _ in both], [large for _, large in both])
    return found if found is None or math.isfinite(found) else None


def _ranges(space: Space) -> dict[str, tuple[float, float]]:
    ranges = {"epochs": space.epochs, "share": space.share}
    if space.learning_rate:
        ranges["learning_rate"] = space.learning_rate
    if space.cheapest < 1:
        ranges["run_tokens"] = (space.cheapest * space.limits.run_tokens, float(space.limits.run_tokens))
    return {name: (float(low), float(high)) for name, (low, high) in ranges.items()}
