"""MLflow's own pages in a real browser: what a team sees first of an experiment, of a run, and of runs side by side."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.browser import Browser, browser, missing_for_a_browser
from tests.helpers.recipes import small_recipe
from tests.helpers.servers import Mlflow, free_port
from tracking.overview import overview_path, overview_tags
from tracking.runs import Tracker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(missing_for_a_browser() is not None, reason=str(missing_for_a_browser())),
]

LOSSES = {"steady": (3.1, 2.9), "whole corpus": (3.2, 3.1), "rewarmed": (3.3, 3.05)}
"""Run -> final held-out loss on the domain, and on general text."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    folder = tmp_path_factory.mktemp("browser")
    mlflow = Mlflow(small_recipe(folder, with_store=False), free_port(), {}, folder / "log")
    mlflow.start()
    yield mlflow
    mlflow.kill()


@pytest.fixture(scope="module")
def experiment(server: Mlflow, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """The id of an experiment with a parent and three runs, and theirs by name."""
    folder = tmp_path_factory.mktemp("runs")
    tags = overview_tags({"med": "domain", "wiki": "general"}) | {"mlflow.experimentKind": "custom_model_development"}
    tracker = Tracker.open(server.uri, "medical", description="Which mixture is best.", tags=tags)
    ids = {}
    with tracker.run("medical", folder / "parent", description="All runs.") as parent:
        for name, (domain, general) in LOSSES.items():
            params = {"mixture": {"epochs": 4, "subset_tokens": 5120}, "training": {"learning_rate": 3e-4}}
            kind = {"steady.kind": "run"}
            with tracker.run(name, folder / name, parent=parent, tags=kind, params=params) as run:
                run.dataset("med", "ab" * 32, "s3://bucket/med", "domain", {"documents": 12})
                for step in range(11):
                    left = 1 - step / 10
                    metrics = {"heldout/med/loss": domain + left, "heldout/wiki/loss": general + left * step / 10}
                    point = {"step": step, "tokens": step * 512, "time_ms": 1_760_000_000_000 + step}
                    run.log({**point, "metrics": metrics | {"train/tokens_per_second": 900.0 + step}})
                run.log({**point, "metrics": {"gap/wiki/depth": general / 100}})
            assert run.run_id is not None
            ids[name] = run.run_id
    return tracker.experiment_id, ids


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium"), width=1600, height=950) as window:
        yield window


def test_the_first_page_shows_the_runs_in_the_order_of_the_domain_loss(
    server: Mlflow, experiment: tuple[str, dict[str, str]], window: Browser
) -> None:
    window.open(f"{server.uri}/{overview_path(experiment[0])}")
    shown = window.wait_for(*LOSSES, "heldout/med/loss", "gap/wiki/depth")
    names = sorted(LOSSES, key=lambda name: LOSSES[name])
    assert sorted(names, key=shown.index) == names
    window.picture("mlflow-runs")


def test_the_curves_stand_side_by_side(server: Mlflow, experiment: tuple[str, dict[str, str]], window: Browser) -> None:
    window.open(f"{server.uri}/{overview_path(experiment[0], charts=True)}")
    window.wait_for(*LOSSES, "Held-out loss, by tokens", "Stability gap, depth")
    window.picture("mlflow-curves")


def test_a_run_tells_its_metrics_parameters_and_data(
    server: Mlflow, experiment: tuple[str, dict[str, str]], window: Browser
) -> None:
    number, ids = experiment
    window.open(f"{server.uri}/#/experiments/{number}/runs/{ids['steady']}")
    window.wait_for("heldout/med/loss", "mixture.epochs", "med", "Parent run")
    window.picture("mlflow-run")


def test_runs_are_compared(server: Mlflow, experiment: tuple[str, dict[str, str]], window: Browser) -> None:
    number, ids = experiment
    chosen = "%2C".join(f"%22{run}%22" for run in ids.values())
    window.open(f"{server.uri}/#/compare-runs?runs=[{chosen}]&experiments=[%22{number}%22]")
    window.wait_for("Comparing 3 Runs", *LOSSES, "Parallel Coordinates Plot")
    window.picture("mlflow-compare")
