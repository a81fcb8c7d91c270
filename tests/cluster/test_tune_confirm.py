"""Finalists: chosen at the trials' run, run once each at the larger one, the best of them written down."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.recipe import load_recipe
from cluster.tune_confirm import confirmed, confirming, write_confirmed
from cluster.tune_setup import Setup, set_up
from ground.errors import UserError
from tests.cluster.test_tune_setup import TUNING
from tests.helpers.recipes import small_recipe
from tuning.base import Base
from tuning.driver import Driver, Wait, advance
from tuning.history import Job, Report, Result
from tuning.proxy import Finalist, enlarged

CONFIRM = TUNING | {"budget": {"value": 120_000}, "confirm": {"run_budget": {"value": 19_200}, "count": 2}}
BASE = Base({"heldout/med/loss": 5.7, "heldout/wiki/loss": 5.7}, {"med": 0.1, "wiki": 0.1})


def setup_of(folder: Path, *overrides: str) -> Setup:
    return set_up(load_recipe(small_recipe(folder, tuning=CONFIRM), list(overrides)), gpus=0, gpu_memory=None)


def test_its_cost_is_kept_back(tmp_path: Path) -> None:
    setup = setup_of(tmp_path)
    larger = setup.confirmation
    assert larger is not None
    run = 19_200 // 512 * 512
    assert larger.budgets.run == run
    assert larger.budgets.whole == 2 * run
    assert setup.budgets.whole == pytest.approx(120_000 - 2 * run)
    assert larger.folder == setup.folder / "confirm"
    # Half the model: half the trial tokens pay a token of the run.
    big = {"hidden_size": 64, "layers": 2, "heads": 4, "kv_heads": 2, "intermediate_size": 128, "max_positions": 64}
    dearer = setup_of(tmp_path / "b", "tuning.budget.value=400000", f"model.architecture={big}",
                      "tuning.trial.model={architecture: {hidden_size: 32, layers: 2, heads: 4, kv_heads: 2, "
                      "intermediate_size: 64, max_positions: 64}}")  # fmt: skip
    assert dearer.budgets.whole < 400_000 - 4 * run


def test_a_run_that_the_domain_cannot_fill_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tuning.confirm.run_budget: of 99,840 tokens .* the domain has 20,000"):
        setup_of(tmp_path, "tuning.confirm.run_budget.value=100000", "tuning.budget.value=1000000")
    with pytest.raises(UserError, match="the confirmation 37,888 more"):
        setup_of(tmp_path / "b", "tuning.budget.value=50000")


def test_each_finalist_runs_once_and_the_best_is_written(tmp_path: Path) -> None:
    setup = setup_of(tmp_path)
    larger = setup.confirmation
    assert larger is not None
    chosen = []
    for trial, u in enumerate((0.2, 0.7)):
        point = setup.space.project(12_800, 2 + 8 * u, 0.5 + u / 3, 2e-3)
        large = enlarged(point, larger.enlargement, 64, 20_000)
        chosen.append(Finalist(trial, point, large, 3.0 + u, 2.5 + u, 0.1))
    driver = Driver(None, larger.budgets.whole, 512, 2)
    decide = confirming(larger, chosen)
    jobs: list[Job] = []
    while isinstance(made := advance(driver, decide), Wait) or isinstance(made.action, Job):
        if isinstance(made, Wait):
            break
        assert isinstance(made.action, Job)
        jobs.append(made.action)
    assert [job.end for job in jobs] == [larger.budgets.run] * 2
    assert all(job.point.tokens == pytest.approx(job.end) for job in jobs)
    assert len({job.seed for job in jobs}) == 2
    # The first is better in the domain and breaks the tolerance of 0.3.
    for job, domain, general in zip(jobs, (2.0, 2.2), (6.6, 5.9), strict=True):
        driver.end(Result(job, (Report(job.end, {"domain_loss": domain, "general_loss": general}),)))
    results = confirmed(larger, chosen, driver)
    assert [(one.domain, one.general) for one in results] == [(2.0, 6.6), (2.2, 5.9)]
    path = tmp_path / "confirmed.yaml"
    best = write_confirmed(larger, results, BASE, path)
    assert best is not None
    assert best.finalist.trial == 1
    recipe = load_recipe(path)
    assert recipe.mixture.subset_tokens == jobs[1].point.subset_tokens
    assert recipe.tuning is None
    assert "Trial 1" in path.read_text()
    assert write_confirmed(larger, [replace(one, domain=None) for one in results], BASE, path) is None
