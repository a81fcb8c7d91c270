"""MLflow is down for a whole run and comes back later: nothing is lost, nothing is there twice."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tests.helpers.recipes import small_recipe

pytestmark = [pytest.mark.slow, pytest.mark.long]
RUNS = {
    "once": {"mixture": {"shares": {"med": 1.0}, "select": "random"}},
    "mixed": {"training": {"learning_rate": 1.0e-3}},
}


def steady(*arguments: str) -> str:
    command = [sys.executable, "-m", "cluster", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, (arguments, done.stdout[-2000:], done.stderr[-3000:])
    assert "Traceback" not in done.stderr
    return " ".join(done.stdout.split())


@contextmanager
def server(folder: Path, port: int) -> Iterator[MlflowClient]:
    """A real MLflow server; the client once it answers."""
    folder.mkdir()
    line = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    line += ["--artifacts-destination", str(folder / "artifacts"), "--port", str(port), "--workers", "1"]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(line, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + 300
        while not _answers(port):
            assert process.poll() is None and time.monotonic() < end, (folder / "log").read_text()[-2000:]
            time.sleep(0.5)
        yield MlflowClient(f"http://127.0.0.1:{port}")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def recorded(folder: Path) -> Counter[tuple[str, int, float]]:
    """Every point of a run that its folder holds."""
    points: Counter[tuple[str, int, float]] = Counter()
    for line in (folder / "spool.jsonl").read_text().splitlines():
        record: dict[str, Any] = json.loads(line)
        points.update((name, record["tokens"], value) for name, value in record.get("metrics", {}).items())
    return points


def received(client: MlflowClient, run: Run) -> Counter[tuple[str, int, float]]:
    """Every point of a run that MLflow has."""
    return Counter(
        (name, point.step, point.value)
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    )


def test_a_run_without_mlflow_is_complete_there_afterwards(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    tracking = {"uri": uri, "system_metrics_interval_s": 1}
    recipe, work = str(small_recipe(tmp_path, runs=RUNS, tracking=tracking)), tmp_path / "work"

    said = steady("train", recipe)
    assert f"MLflow is out of reach (nobody answers at {uri}" in said
    assert "records of 3 run(s) are not in MLflow yet" in said and "steady sync" in said
    steady("report", recipe)

    with server(tmp_path / "server", port) as client:
        assert "complete already" in steady("train", recipe, "--only", "once")
        assert "kept records sent to MLflow" in steady("sync", recipe)
        check(client, work)
        assert " 0 kept records sent" in steady("sync", recipe)
        check(client, work)


def check(client: MlflowClient, work: Path) -> None:
    """Everything that was recorded is in MLflow, once."""
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert runs.keys() >= {"small", "once", "mixed"}
    assert len(client.search_runs([experiment.experiment_id])) == len(runs)
    parent = runs["small"]
    for name in ("once", "mixed"):
        run, folder = runs[name], work / "runs" / name
        points = recorded(folder)
        assert len(points) > 100 and set(points.values()) == {1}
        assert received(client, run) == points
        assert {"train/loss", "heldout/med/loss", "gap/med/depth"} <= run.data.metrics.keys()
        assert any(metric.startswith("system/") for metric in run.data.metrics)
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params["training.learning_rate"] == ("0.003" if name == "once" else "0.001")
        assert {entry.dataset.name for entry in run.inputs.dataset_inputs} == {"med", "wiki"}
        assert run.info.status == "FINISHED"
    assert parent.info.status == "FINISHED"
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == {"report", "plots"}
    assert "report/report.html" in {file.path for file in client.list_artifacts(parent.info.run_id, "report")}
