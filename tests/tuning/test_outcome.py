"""What is told of a search is what its driver wrote down and its beliefs say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.searches import PARETO, RECIPE, Played, crashed, diverged, play
from tracking.search_data import SearchData
from tuning.driver import Driver
from tuning.history import Job, Result
from tuning.landscapes import BASE, landscape_space
from tuning.objective import tolerance
from tuning.outcome import Confirmed, build_search_data
from tuning.propose import Planner
from tuning.proxy import finalists

SPACE = landscape_space()
RUN = SPACE.limits.run_tokens


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Played, Path]:
    folder = tmp_path_factory.mktemp("search")
    return play(folder, runs=14), folder


@pytest.fixture(scope="module")
def data(searched: tuple[Played, Path]) -> SearchData:
    return searched[0].data()


def test_the_best_is_the_planner_s(searched: tuple[Played, Path], data: SearchData) -> None:
    found, _ = searched
    assert isinstance(found.planner, Planner)
    survey = found.planner.survey(found.driver.history())
    assert survey is not None and survey.best is not None and data.best is not None
    assert data.best.trial == survey.best.trial
    assert data.best.value.mean == survey.best.value
    assert set(data.best.rivals) <= {trial.number for trial in data.finished} - {data.best.trial}
    assert data.best.shares["medical"] == pytest.approx(data.best.knobs.share)
    assert data.best.shares["wikipedia"] == pytest.approx(3 * data.best.shares["code"], rel=1e-6)
    lowest = min(trial.expected or 9 for trial in data.finished)
    assert next(t.expected for t in data.trials if t.number == data.best.trial) == lowest
    assert data.worst is not None and data.worst != data.best.trial


def test_the_files_of_a_driver_tell_the_same(searched: tuple[Played, Path], data: SearchData) -> None:
    found, folder = searched
    again = Driver(folder, 14 * RUN, SPACE.limits.step_tokens, 2)
    fresh = Planner(SPACE, found.setting.config, BASE[1])
    assert build_search_data(found.setting, again, fresh, reason=found.reason, seconds=7200.0) == data


def test_every_token_of_the_ledger_is_told(searched: tuple[Played, Path], data: SearchData) -> None:
    assert sum(job.settled for job in data.jobs) == data.settled == searched[0].driver.ledger.state().settled
    assert [job.number for job in data.jobs] == list(range(len(data.jobs)))
    assert {job.rung for job in data.jobs} == {0, 1, 2}
    for job in data.jobs:
        assert job.end == pytest.approx(RUN * (0.25, 0.5, 1.0)[job.rung])
    assert data.picks[-1].spent <= data.settled
    assert [pick.spent for pick in data.picks] == sorted(pick.spent for pick in data.picks)
    assert data.best is not None and data.picks[-1].trial == data.best.trial


def test_tokens_trained_twice_and_jobs_in_flight() -> None:
    found = play(jobs=9)
    driver = found.driver
    assert driver.redo(driver.jobs[2], RUN / 8)
    assert driver.redo(driver.jobs[2], RUN / 4)
    told = found.data()
    last = max(job.number for job in told.jobs if job.trial == driver.jobs[2].trial)
    assert {job.number: job.redone for job in told.jobs if job.redone} == {last: RUN / 4}
    assert sum(job.settled + job.redone for job in told.jobs) == told.settled
    assert sum(job.reserved for job in told.jobs) == told.reserved > 0
    assert {job.state for job in told.jobs} == {"done", "open"}
    assert "running" in {trial.state for trial in told.trials}
    assert told.reason == ""


def test_forecasts_stand_beside_their_outcomes(searched: tuple[Played, Path], data: SearchData) -> None:
    driver = searched[0].driver
    for said in data.predictions:
        report = driver.results[said.job].reports[-1]
        assert said.outcome == report.metrics[said.metric]
        assert said.trial == driver.jobs[said.job].trial
    assert {fit.metric: fit.count for fit in data.fits} == {
        "domain_loss": len(data.predictions) // 2,
        "general_loss": len(data.predictions) // 2,
    }
    last = max(data.predictions, key=lambda said: (said.job, said.metric == "domain_loss"))
    trial = data.trials[last.trial]
    assert trial.foretold_domain is not None and trial.foretold_domain.mean == last.mean
    assert trial.domain == last.outcome


def test_maps_and_curves_agree_with_the_best(data: SearchData) -> None:
    assert data.best is not None
    epochs, rates = data.maps
    assert [(found.x.name, found.y.name) for found in data.maps] == [("share", "epochs"), ("share", "learning_rate")]
    value = np.array([[np.nan if v is None else v for v in row] for row in epochs.value])
    x = np.argmin(np.abs(np.array(epochs.x.values) - data.best.knobs.share))
    y = np.argmin(np.abs(np.log(np.array(epochs.y.values) / data.best.knobs.epochs)))
    assert value[y, x] == pytest.approx(data.best.value.mean, abs=0.03)
    assert np.nanmin(value) <= data.best.value.mean + 0.005
    assert len(rates.value) == len(rates.y.values) and len(rates.value[0]) == len(rates.x.values)
    domain, general = data.share_curves
    near = int(np.argmin(np.abs(np.array(domain.shares) - data.best.knobs.share)))
    assert domain.mean[near] == pytest.approx(data.best.domain.mean, abs=0.02)
    row = next(row for row in domain.trials if row[0] == data.best.trial)
    assert row[2] == pytest.approx(row[3])  # the best recipe's own point need not be moved
    assert data.critical is not None and data.critical.share is not None
    within = [s for s, mean in zip(general.shares, general.mean, strict=True) if mean <= data.limit]
    assert data.critical.share == pytest.approx(max(within), abs=1.5 * (general.shares[1] - general.shares[0]))
    assert data.critical.cautious is None or data.critical.cautious <= data.critical.share


def test_cells_that_cannot_be_run_are_empty() -> None:
    found = play(space=replace(SPACE, cheapest=0.3)).data()
    subset = found.maps[0]
    assert (subset.x.name, subset.y.name) == ("subset_tokens", "epochs")
    for epochs, row in zip(subset.y.values, subset.value, strict=True):
        for tokens, value in zip(subset.x.values, row, strict=True):
            run = tokens * epochs
            if value is None:
                assert run > RUN * 0.999 or run < 0.3 * RUN * 1.001
            else:
                assert 0.299 * RUN <= run <= RUN * 1.001
    assert any(value is None for row in subset.value for value in row)
    assert "run_tokens" in found.ranges


def test_a_knob_that_is_fixed_has_no_map() -> None:
    found = play(space=replace(SPACE, share=(0.8, 0.8), learning_rate=None)).data()
    assert found.maps == ()
    assert found.best is not None and found.best.knobs.learning_rate is None


def test_a_search_that_has_hardly_begun() -> None:
    waiting = play(happens=lambda job, result: None).data()
    assert waiting.best is None and waiting.next is None and waiting.fits == () and waiting.settled == 0
    begun = play(jobs=4).data()
    assert begun.best is None and begun.front == () and begun.maps == () and len(begun.fits) == 2
    assert begun.next is not None and begun.next.gain is None and begun.next.proposals
    one = play(runs=1.6, initial=4).data()
    assert len(one.finished) == 1 and one.best is not None and one.worst is None
    assert one.best.rivals == () and one.next is not None and one.next.replicate is None


def test_trials_that_diverged_or_failed() -> None:
    def happens(job: Job, result: Result) -> Result:
        return diverged(result) if job.trial == 1 else crashed(result) if job.number == 4 else result

    told = play(happens=happens).data()
    states = {trial.number: trial.state for trial in told.trials}
    assert states[1] == "diverged" and states[4] == "failed"
    assert told.trials[1].domain is None and told.trials[1].expected is None
    assert told.best is not None and told.best.trial not in (1, 4)
    assert SearchData.from_json(told.to_json()) == told
    nothing = play(runs=3, happens=lambda job, result: diverged(result)).data()
    assert nothing.best is None and nothing.reason == "no trial has given a result"


def test_a_search_for_the_front_prefers_nothing() -> None:
    told = play(objective=PARETO).data()
    assert told.best is not None and told.best.trial in {point.trial for point in told.front}
    assert told.best.within is None and told.best.safe is None and told.critical is None and told.picks == ()
    means = [(point.domain.mean, point.general.mean) for point in told.front]
    assert means == sorted(means) and [b for _, b in means] == sorted((b for _, b in means), reverse=True)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_without_laws_they_are_fitted_for_the_report(sampler: str) -> None:
    told = play(sampler=sampler).data()
    assert told.sampler == sampler and told.predictions == ()
    assert told.best is not None and told.next is not None and told.next.proposals


def test_what_more_budget_would_buy(searched: tuple[Played, Path], data: SearchData) -> None:
    found, _ = searched
    assert data.next is not None and data.next.gain is not None
    assert 0 < len(data.next.proposals) <= 4 and data.next.stop == ""
    first = data.next.proposals[0]
    assert isinstance(found.planner, Planner)
    decided = found.planner.decide(found.driver.history(), len(found.driver.jobs), 14 * RUN).action
    assert isinstance(decided, Job)
    assert (decided.trial, decided.start, decided.end) == (first.trial, first.start, first.end)
    assert data.next.replicate is not None
    assert data.next.replicate.after < data.next.replicate.difference.sd
    patient = play(runs=40, patience=5.0).data()
    assert patient.next is not None and patient.next.proposals == ()
    assert patient.next.stop.startswith("expected gain") and patient.reason == patient.next.stop


def test_curves_come_from_the_base_and_end_at_the_last_report(searched: tuple[Played, Path], data: SearchData) -> None:
    assert data.best is not None
    rungs = data.curves[data.best.trial]["domain_loss"]
    assert rungs[0] == (0.0, BASE[0]) and [tokens for tokens, _ in rungs[1:]] == [RUN / 4, RUN / 2, RUN]
    finer = {data.best.trial: {"domain_loss": [(0, 3.0), (RUN / 100, 2.9), (RUN / 8, float("nan"))]}}
    curve = searched[0].data(curves=finer).curves[data.best.trial]["domain_loss"]
    assert curve[:2] == ((0.0, 3.0), (RUN / 100, 2.9)) and curve[2:] == rungs[1:]


def test_a_recipe_that_keeps_the_tolerance_is_named(data: SearchData) -> None:
    assert data.best is not None and data.best.within is not None
    if data.best.within >= 0.9:
        assert data.best.safe == data.best.trial
    else:
        assert data.best.safe != data.best.trial


def test_finalists_and_their_ranks(searched: tuple[Played, Path], data: SearchData) -> None:
    found, _ = searched
    assert isinstance(found.planner, Planner)
    survey = found.planner.survey(found.driver.history())
    assert survey is not None
    scalar = tolerance(found.setting.config.objective, BASE[1])
    chosen = finalists(survey, scalar, 3, 4.0, 8 * RUN)
    measured = [Confirmed(one, 1.7 + 0.01 * i, 2.52) for i, one in enumerate(chosen)]
    told = found.data(confirmed=measured)
    assert told.rank_correlation == pytest.approx(1)
    assert [one.value for one in told.finalists] == [pytest.approx(1.7 + 0.01 * i) for i in range(3)]
    assert told.finalists[0].knobs.tokens == pytest.approx(4 * RUN, rel=0.01)
    waiting = found.data(confirmed=[*measured[:2], Confirmed(chosen[2], None, None)])
    assert waiting.rank_correlation is None and waiting.finalists[2].value is None


def test_no_secret_is_in_the_data(data: SearchData) -> None:
    assert "hunter2" in str(RECIPE)
    assert "hunter2" not in data.to_json()
