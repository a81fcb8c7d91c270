"""The real command on real Ray, DeepSpeed and MLflow, with a model of a few thousand parameters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.helpers.recipes import small_recipe

pytestmark = pytest.mark.slow

RUNS = {
    "once": {"description": "Everything once.", "mixture": {"shares": {"med": 1.0}, "select": "random"}},
    "mixed": {"description": "A subset for two epochs with replay.", "mixture": {"subset_tokens": 3200, "epochs": 2}},
}


def steady(*arguments: str, timeout: int = 300) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, str]]:
    """A recipe, its work folder and what each command printed, from corpora to report."""
    folder = tmp_path_factory.mktemp("end-to-end")
    path = small_recipe(folder, with_store=False, runs=RUNS, tracking={"system_metrics_interval_s": 1})
    printed = {}
    for command in ("curate", "plan", "train", "report", "doctor"):
        done = steady(command, str(path))
        assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-3000:])
        assert "Traceback" not in done.stderr
        printed[command] = done.stdout
    return path, folder / "work", printed


def test_each_command_says_what_it_did(finished: tuple[Path, Path, dict[str, str]]) -> None:
    printed = finished[2]
    assert "Curation funnel" in printed["curate"]
    assert "digest" in printed["curate"]
    for words in ("tokens", "FLOP", "estimated time", "effective domain tokens", "once", "mixed"):
        assert words in printed["plan"]
    assert "stability gap" in printed["train"]
    assert "report.html" in printed["report"]
    assert "run(s) planned" in printed["doctor"]


def test_mlflow_has_one_parent_and_a_child_for_each_run(finished: tuple[Path, Path, dict[str, str]]) -> None:
    work = finished[1]
    client = MlflowClient(f"sqlite:///{work / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    (curation,) = (name for name in runs if name.startswith("curation "))
    assert runs.keys() == {"small", "once", "mixed", curation}
    assert runs[curation].data.tags["steady.kind"] == "curation"
    parent = runs["small"].info.run_id
    for name in ("once", "mixed"):
        run = runs[name]
        assert run.data.tags["mlflow.parentRunId"] == parent
        assert run.info.status == "FINISHED"
        assert run.data.params["training.learning_rate"] == "0.003"
        datasets = {entry.dataset.name: entry.dataset for entry in run.inputs.dataset_inputs}
        assert datasets.keys() == {"med", "wiki"}
        steps = int(run.data.params["plan.steps"])
        history = client.get_metric_history(run.info.run_id, "train/loss")
        assert [metric.step for metric in history] == [512 * (i + 1) for i in range(steps)]
        base = client.get_metric_history(run.info.run_id, "heldout/med/loss")[0]
        assert base.step == 0
        assert {"gap/med/depth", "gap/wiki/area", "train/mfu", "train/share/med"} <= run.data.metrics.keys()
        assert any(metric.startswith("system/") for metric in run.data.metrics)
    artifacts = {entry.path for entry in client.list_artifacts(parent)}
    assert artifacts == {"report", "plots"}
    assert runs["once"].data.metrics["train/share/med"] == 1.0


def test_both_runs_start_from_the_same_base_and_leave_a_model(finished: tuple[Path, Path, dict[str, str]]) -> None:
    work = finished[1]
    assert (work / "report" / "report.html").stat().st_size > 100_000
    data = json.loads((work / "report" / "report.json").read_text())
    first = {run["name"]: run["curves"]["heldout/med/loss"][0] for run in data["runs"]}
    assert first["once"] == first["mixed"]
    for name in ("once", "mixed"):
        assert (work / "runs" / name / "model" / "model.safetensors").is_file()
        assert (work / "runs" / name / "model" / "tokenizer.json").is_file()


def test_the_same_command_again_trains_nothing(finished: tuple[Path, Path, dict[str, str]]) -> None:
    again = steady("train", str(finished[0]))
    assert again.returncode == 0
    assert again.stdout.count("complete already") == 2


def test_a_killed_command_goes_on_with_the_same_losses(
    finished: tuple[Path, Path, dict[str, str]], tmp_path: Path
) -> None:
    """SIGKILL of the driver in mid-run; the next command ends with the losses of the undisturbed run."""
    path, work, _ = finished
    mixture = "mixture={shares: {med: 0.8, wiki: 0.2}, subset_tokens: 11520, epochs: 4}"
    overrides = ["runs={}", mixture, f"curation.store={work / 'store'}", "training.checkpoint_tokens=2048"]

    undisturbed = steady("train", str(path), *overrides, f"work={tmp_path / 'whole'}")
    assert undisturbed.returncode == 0, undisturbed.stderr[-3000:]
    command = [sys.executable, "-m", "cluster", "train", str(path), *overrides, f"work={tmp_path / 'killed'}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    spool = tmp_path / "killed" / "runs" / "small" / "spool.jsonl"
    deadline = time.monotonic() + 200
    while not (spool.is_file() and spool.read_text().count("train/loss") > 25):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    again = steady("train", str(path), *overrides, f"work={tmp_path / 'killed'}")
    assert again.returncode == 0, again.stderr[-3000:]

    def losses(name: str) -> dict[int, float]:
        lines = (tmp_path / name / "runs" / "small" / "spool.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        return {r["tokens"]: r["metrics"]["train/loss"] for r in records if "train/loss" in r.get("metrics", {})}

    assert losses("killed") == losses("whole")
    weights = [tmp_path / name / "runs" / "small" / "model" / "model.safetensors" for name in ("killed", "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
