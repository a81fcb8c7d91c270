"""Decisions, rungs and whole simulated searches."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from benchmarks.search_analytic_budget_share import wilson
from ground.errors import UserError
from tuning.baselines import BASELINES, asha
from tuning.beliefs import front_of
from tuning.budget import Budgets, Rates, reservation, resolve, to_tokens
from tuning.config import Amount, ObjectiveConfig, TuningConfig
from tuning.history import History, Job, Report, Result, result_of, to_record, visible
from tuning.landscapes import BASE, LANDSCAPES, landscape_space
from tuning.objective import check_tolerance, front_probability, pareto_front, tolerance
from tuning.plain import PlainPlanner
from tuning.predictions import calibration, foretell, with_outcomes
from tuning.propose import Planner, Stop, paper_recipes
from tuning.proxy import finalists, rank_correlation
from tuning.rungs import asha_promotable, next_rung, rung_tokens
from tuning.simulate import observe, optimum, regrets, search, settings, settled_within, true_value

SPACE = landscape_space()
RUN = SPACE.limits.run_tokens


def played(count: int, seed: int = 0, **changes: object) -> tuple[list[Job], list[Result], Planner]:
    """The first ``count`` decisions of a search, one at a time."""
    config = settings(40 * RUN, SPACE, seed, concurrent=1).model_copy(update=changes)
    planner = Planner(SPACE, config, BASE[1])
    jobs: list[Job] = []
    results: list[Result] = []
    for number in range(count):
        action = planner.decide(visible(results, jobs, 1), number, 40 * RUN).action
        assert isinstance(action, Job), action
        jobs.append(action)
        results.append(observe(SPACE, LANDSCAPES[0], action, seed))
    return jobs, results, planner


@pytest.fixture(scope="module")
def half() -> tuple[list[Job], list[Result], Planner]:
    return played(26)


@pytest.mark.parametrize(("name", "share"), [("paper", 0.82), ("cmr", 0.40)])
def test_the_two_named_landscapes_have_the_published_shares(name: str, share: float) -> None:
    landscape = next(one for one in LANDSCAPES if one.name == name)
    best = optimum(SPACE, landscape, ticks=9)
    assert best.point.share == pytest.approx(share, abs=0.02)
    assert best.worst / best.value > 1.2  # 1 % means something
    _, general = landscape.truth(SPACE, [best.point], np.ones(1))
    assert general[0] <= BASE[1] + ObjectiveConfig().epsilon + 1e-3


def test_noise_is_coherent_along_a_trial_and_of_the_stated_size() -> None:
    landscape = LANDSCAPES[0]
    ends = np.array([landscape.noise_of(seed)[0] for seed in range(300)])
    assert ends[:, -1].std() == pytest.approx(landscape.noise, rel=0.15)
    assert np.corrcoef(ends[:, 16], ends[:, -1])[0, 1] > 0.7
    point = SPACE.point(np.full(3, 0.5))
    whole = landscape.observe(SPACE, point, np.array([0.25, 1.0]), 3)[0]
    assert whole[1] == landscape.observe(SPACE, point, np.array([1.0]), 3)[0][0]


def test_a_search_starts_with_the_published_recipes_and_resumes_checkpoints(
    half: tuple[list[Job], list[Result], Planner],
) -> None:
    jobs, _, _ = half
    assert [job.point for job in jobs[:2]] == paper_recipes(SPACE)
    assert jobs[0].point.share == 0.82
    assert jobs[0].point.epochs == pytest.approx(4, rel=1e-3)
    reached: dict[int, float] = {}
    for job in jobs:
        assert job.start == reached.get(job.trial, 0)
        reached[job.trial] = job.end
    assert sum(tokens == RUN for tokens in reached.values()) >= 3
    assert any(job.start > 0 for job in jobs)


def test_decisions_depend_on_history_and_seed_alone(half: tuple[list[Job], list[Result], Planner]) -> None:
    _, results, planner = half
    history = History(tuple(results))
    fresh = Planner(SPACE, planner._config, BASE[1])
    shuffled = History(tuple(reversed(results)))
    assert fresh.decide(shuffled, 26, RUN).action == planner.decide(history, 26, RUN).action
    other = Planner(SPACE, planner._config.model_copy(update={"seed": 9}), BASE[1])
    assert other.decide(History(), 4, RUN).action != fresh.decide(History(), 4, RUN).action


def test_what_is_not_finished_in_order_is_not_seen(half: tuple[list[Job], list[Result], Planner]) -> None:
    jobs, results, _ = half
    early = visible(results[:9], jobs[:10], 4)
    assert len(early.results) == 4
    assert [job.number for job in early.pending] == [4, 5, 6, 7, 8, 9]
    assert visible(results[:4], jobs[:10], 4) == early
    with pytest.raises(LookupError, match="waits for job 3"):
        visible(results[:3], jobs[:10], 4)


def test_records_survive_json(half: tuple[list[Job], list[Result], Planner]) -> None:
    _, results, _ = half
    assert [result_of(json.loads(json.dumps(to_record(result)))) for result in results] == results


def test_predictions_meet_their_outcomes(half: tuple[list[Job], list[Result], Planner]) -> None:
    jobs, results, planner = half
    survey = planner.survey(History(tuple(results[:18])))
    assert survey is not None
    made = [p for job in jobs[18:] for p in foretell(survey, SPACE, ObjectiveConfig(), job)]
    assert all(p.z is None for p in made)
    assert calibration(made, "domain_loss") is None
    done = with_outcomes(made, results)
    judged = calibration(done, "domain_loss")
    assert judged is not None
    assert judged.count == 8
    assert judged.inside_95 > 0.6
    assert judged.rmse < 0.1


def test_failed_trials_are_neither_promoted_nor_picked() -> None:
    jobs, results, planner = played(14)
    failed = {jobs[0].trial, jobs[3].trial}
    broken = [
        replace(r, reports=(), state="failed") if r.job.number in (0, 3) else r
        for r in results
        if r.job.trial not in failed or r.job.number in (0, 3)
    ]
    history = History(tuple(broken))
    assert not {trial.number for trial in history.paused} & failed
    action = planner.decide(history, 14, RUN).action
    assert isinstance(action, Job)
    assert action.trial not in failed
    everything = History(tuple(replace(r, reports=(), state="failed") for r in results if r.job.start == 0))
    assert isinstance(planner.decide(everything, 99, RUN).action, Job | Stop)


def test_nothing_is_tried_near_a_recipe_that_diverged(half: tuple[list[Job], list[Result], Planner]) -> None:
    """The best trials become infinite: the next ones keep away, and none of them is picked."""
    _, results, planner = half
    survey = planner.survey(History(tuple(results)))
    assert survey is not None
    assert survey.best is not None
    centre = SPACE.unit(survey.best.point)
    near = {r.job.trial for r in results if np.linalg.norm(SPACE.unit(r.job.point) - centre) < 0.1}
    broken = [
        replace(r, reports=(Report(r.job.end, {"domain_loss": float("nan"), "general_loss": 3.0}),))
        if r.job.trial in near
        else r
        for r in results
    ]
    history = History(tuple(broken))
    assert sum(trial.diverged for trial in history.trials) == len(near) > 0
    for number in range(26, 34):
        action = planner.decide(history, number, RUN).action
        assert isinstance(action, Job)
        assert action.trial not in near
        assert action.start > 0 or np.linalg.norm(SPACE.unit(action.point) - centre) > 0.1
    after = planner.survey(history)
    assert after is not None
    assert after.best is None or after.best.trial not in near


def test_a_metric_that_nobody_logs_is_named(half: tuple[list[Job], list[Result], Planner]) -> None:
    _, results, planner = half
    config = planner._config.model_copy(update={"objective": ObjectiveConfig(domain_metric="bleu")})
    with pytest.raises(UserError, match="no trial reports a finite 'bleu'; use one of domain_loss, general_loss"):
        Planner(SPACE, config, BASE[1]).decide(History(tuple(results)), 26, RUN)


def test_the_front_is_a_trade(half: tuple[list[Job], list[Result], Planner]) -> None:
    _, results, planner = half
    survey = planner.survey(History(tuple(results)))
    assert survey is not None
    front = front_of(survey.beliefs, np.random.default_rng(0))
    assert len(front) >= 2
    assert [one.domain for one in front] == sorted(one.domain for one in front)
    assert [one.general for one in front] == sorted((one.general for one in front), reverse=True)
    assert all(0 < one.probability <= 1 for one in front)


def test_the_budget_ends_a_search(half: tuple[list[Job], list[Result], Planner]) -> None:
    _, results, planner = half
    action = planner.decide(History(tuple(results)), 26, RUN / 5).action
    assert isinstance(action, Stop)
    assert "400,000,000 tokens are left" in action.reason


@pytest.mark.parametrize("concurrent", [1, 2])
def test_a_small_budget_ends_with_a_recipe(concurrent: int) -> None:
    """Two and a half runs: less than the first design at its first rung and one run."""
    config = settings(2.5 * RUN, SPACE, 0, concurrent)
    trace = search(SPACE, LANDSCAPES[0], 2.5 * RUN, 0, config)
    assert trace.steps[-1].pick is not None
    assert trace.steps[-1].spent <= 2.5 * RUN


@pytest.mark.slow
def test_whole_searches_end_near_the_optimum_within_the_budget() -> None:
    best = optimum(SPACE, LANDSCAPES[0], ticks=9)
    trace = search(SPACE, LANDSCAPES[0], 20 * RUN, 1)
    path = regrets(SPACE, LANDSCAPES[0], best, trace)
    assert path[-1][0] <= 20 * RUN
    assert path[-1][1] < 0.02


def test_settled_within_counts_from_the_last_arrival() -> None:
    assert settled_within([(1, 0.5), (2, 0.005), (3, 0.02), (4, 0.009), (5, 0.001)], 0.01) == 4
    assert settled_within([(1, 0.001), (2, 0.5)], 0.01) == float("inf")


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_baselines_spend_no_more_than_the_budget(name: str) -> None:
    trace = BASELINES[name](SPACE, LANDSCAPES[0], 8.5 * RUN, 3)
    assert 7 * RUN < trace.steps[-1].spent <= 8.5 * RUN
    assert trace.steps[-1].pick is not None
    assert BASELINES[name](SPACE, LANDSCAPES[0], 8.5 * RUN, 3) == trace


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_plain_planners_promote_by_resuming(sampler: str) -> None:
    config = settings(40 * RUN, SPACE, 0, 1).model_copy(update={"sampler": sampler, "initial": 4})
    planner = PlainPlanner(SPACE, config, BASE[1])
    results: list[Result] = []
    for number in range(16):
        action = planner.decide(History(tuple(results)), number, RUN).action
        assert isinstance(action, Job)
        results.append(observe(SPACE, LANDSCAPES[0], action, 0))
    assert History(tuple(results)).finished
    again = PlainPlanner(SPACE, config, BASE[1]).decide(History(tuple(results)), 16, RUN)
    assert again == planner.decide(History(tuple(results)), 16, RUN)


def test_asha_promotes_the_best_half_once() -> None:
    points = SPACE.grid(2)[:4]
    values = {i: [value] for i, value in enumerate([3.0, 1.0, 2.0, 4.0])}
    reports = [
        Result(Job(i, i, p, 0, 0, RUN / 4, ""), (Report(RUN / 4, {"domain_loss": values[i][0]}),))
        for i, p in enumerate(points)
    ]
    first = asha_promotable(SPACE, History(tuple(reports)), (0.25, 1.0), values, 2)
    assert first is not None
    assert first.number == 1
    values[1].append(1.0)
    promoted = Result(Job(4, 1, points[1], 0, RUN / 4, RUN, ""), (Report(RUN, {"domain_loss": 1.0}),))
    second = asha_promotable(SPACE, History((*reports, promoted)), (0.25, 1.0), values, 2)
    assert second is not None
    assert second.number == 2
    assert asha_promotable(SPACE, History(tuple(reports[:1])), (0.25, 1.0), values, 2) is None


def test_rungs_are_whole_steps() -> None:
    point = SPACE.point(np.array([0.3, 0.4, 0.5]))
    assert rung_tokens(SPACE, point, (0.25, 0.33333, 1.0)) == [500_000_000, 667_000_000, RUN]
    assert next_rung(SPACE, point, (0.25, 1.0), 500_000_000) == RUN
    assert next_rung(SPACE, point, (0.25, 1.0), RUN) is None


def test_objective() -> None:
    scalar = tolerance(ObjectiveConfig(epsilon=0.1, penalty=2), 2.5)
    assert scalar.of(np.array([2.0, 2.0]), np.array([2.6, 2.7])) == pytest.approx([2.0, 2.2])
    rng = np.random.default_rng(0)
    drawn = scalar.of(rng.normal(2, 0.1, 200_000), rng.normal(2.62, 0.05, 200_000)).mean()
    assert scalar.expected((np.array(2.0), np.array(0.1)), (np.array(2.62), np.array(0.05))) == pytest.approx(
        drawn, abs=1e-3
    )
    assert pareto_front([1, 2, 3, 2.5], [3, 2, 1, 2.5]) == [0, 1, 2]
    draws = np.array([[1.0, 2.0], [1.0, 2.0]]), np.array([[1.0, 2.0], [3.0, 2.0]])
    assert front_probability(*draws) == pytest.approx([1, 0.5])
    with pytest.raises(UserError, match=r"below 0\.06"):
        check_tolerance(ObjectiveConfig(), 0.06)
    check_tolerance(ObjectiveConfig(), 0.04)


def test_a_search_for_the_front_goes_on_in_several_directions() -> None:
    jobs, _, _ = played(20, objective=ObjectiveConfig(kind="pareto"))
    assert np.ptp([job.point.share for job in jobs[8:]]) > 0.2


def test_amounts_become_tokens() -> None:
    rates = Rates(flops_per_token=6e9, tokens_per_device_second=1000)
    assert to_tokens(Amount(value=6e18, unit="flops"), rates, "x") == pytest.approx(1e9)
    assert to_tokens(Amount(value=2, unit="gpu_hours"), rates, "x") == pytest.approx(7.2e6)
    with pytest.raises(UserError, match="no throughput"):
        to_tokens(Amount(value=2, unit="gpu_hours"), Rates(), "x")
    assert resolve(Amount(value=1e6), Amount(value=100_999), rates, 1000, 0.25) == Budgets(1e6, 100_000)
    with pytest.raises(UserError, match=r"is 150,000 tokens; one run of 100,000 and four .* need 200,000"):
        resolve(Amount(value=1.5e5), Amount(value=1e5), rates, 1000, 0.25)
    assert reservation(0, 2500, 1000) == 3000
    assert reservation(1000, 3000, 1000) == 2000


def test_config_refuses_nonsense() -> None:
    amount = {"value": 1}
    with pytest.raises(ValidationError, match="must rise"):
        TuningConfig(budget=amount, run_budget=amount, rungs=(0.5, 0.25, 1))
    with pytest.raises(ValidationError, match="above high"):
        TuningConfig(budget=amount, run_budget=amount, space={"epochs": {"low": 3, "high": 1}})


def test_finalists_are_the_best_and_extrapolate(half: tuple[list[Job], list[Result], Planner]) -> None:
    _, results, planner = half
    survey = planner.survey(History(tuple(results)))
    assert survey is not None
    assert survey.best is not None
    scalar = tolerance(ObjectiveConfig(), BASE[1])
    chosen = finalists(survey, scalar, 3, 4, 10**11)
    assert chosen[0].point == survey.best.point
    assert [one.expected for one in chosen] == sorted(one.expected for one in chosen)
    assert all(one.large.tokens == pytest.approx(4 * RUN) and one.large.epochs == one.point.epochs for one in chosen)
    assert all(one.extrapolated < one.expected for one in chosen)
    with pytest.raises(UserError, match="subset of"):
        finalists(survey, scalar, 3, 40, RUN)
    assert rank_correlation([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(0.8)
    assert rank_correlation([1, 2], [1, 2]) is None


def test_wilson() -> None:
    assert wilson(40, 50) == pytest.approx((0.6696, 0.8876), abs=1e-3)


def test_a_true_value_above_the_tolerance_is_penalised() -> None:
    point = SPACE.point(np.array([0.5, 1.0, 1.0]))
    domain, general = LANDSCAPES[1].truth(SPACE, [point], np.ones(1))
    excess = general[0] - BASE[1] - ObjectiveConfig().epsilon
    assert excess > 0.1
    assert true_value(SPACE, LANDSCAPES[1], point) == pytest.approx(domain[0] + ObjectiveConfig().penalty * excess)
    assert asha(SPACE, LANDSCAPES[1], RUN, 0).steps
