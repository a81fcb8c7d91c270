"""Takes the documents' pictures of a finished demo, in headless Chromium: `python -m docs.pictures WORK_FOLDER`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from mlflow.tracking import MlflowClient

from tests.helpers.browser import PICTURES, Browser, browser
from tests.helpers.servers import ROOT, Mlflow, free_port
from tracking.overview import overview_path

TARGET = Path(__file__).parent / "images"
_RECIPE = ROOT / "recipes" / "demo.yaml"
_FRAME = 143
"""Height of what a window has besides its page."""
_DRAWN = "return document.querySelectorAll('.xaxislayer-above').length"
_PARENT = "return [...document.querySelectorAll('a')].filter(one => one.innerText === 'demo').length > 1"
"""Beside the link to the experiment of the same name."""
_HEADINGS = "[...document.querySelectorAll('h2')]"
_TO_HEADING = f"{_HEADINGS}.find(one => one.innerText === arguments[0]).scrollIntoView(); scrollBy(0, -24)"


def reports(work: Path) -> None:
    """The first screens of the report, and the front and the maps of the search."""
    with browser(Path(tempfile.mkdtemp()), width=1200, height=1500 + _FRAME) as window:
        window.open((work / "report" / "report.html").resolve().as_uri())
        window.wait_for("Gap curves")
        window.picture("report")
        window.open((work / "search-report" / "report.html").resolve().as_uri())
        window.wait_for("Pareto front", "Maps of the knobs")
        window.run(_TO_HEADING, "Pareto front")
        window.picture("search")


def mlflow_pages(work: Path) -> None:
    """The runs of the demo in MLflow: table, curves, one of them."""
    server = Mlflow(_RECIPE, free_port(), {"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{work}/mlflow.db"}, work / "ui.log")
    server.start()
    try:
        client = MlflowClient(server.uri)
        (experiment,) = [one for one in client.search_experiments() if one.name == "demo"]
        runs = client.search_runs([experiment.experiment_id], "tags.`steady.kind` = 'run'")
        names = [str(run.info.run_name) for run in runs]
        with browser(Path(tempfile.mkdtemp()), width=1500, height=900 + _FRAME) as window:
            window.open(f"{server.uri}/{overview_path(experiment.experiment_id)}")
            window.wait_for(*names)
            _close_assistant(window)
            window.picture("mlflow-runs")
            window.open(f"{server.uri}/{overview_path(experiment.experiment_id, charts=True)}")
            window.wait_for("Held-out loss, by tokens")
            window.wait_until(f"{_DRAWN} >= 4")  # one for each source
            window.picture("mlflow-curves")
            number, run = experiment.experiment_id, runs[0].info.run_id
            window.open(f"{server.uri}/#/experiments/{number}/runs/{run}?workflowType=machine_learning")
            window.wait_until(_PARENT)
            window.picture("mlflow-run")
    finally:
        server.kill()


def _close_assistant(window: Browser) -> None:
    """MLflow opens a panel for questions to a language model beside its first page."""
    window.run("[...document.querySelectorAll('button')].find(one => one.ariaLabel === 'Close')?.click()")


if __name__ == "__main__":
    os.environ.setdefault(PICTURES, str(TARGET))
    where = Path(sys.argv[1]).resolve()
    reports(where)
    mlflow_pages(where)
