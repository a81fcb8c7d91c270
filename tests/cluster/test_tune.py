"""`steady tune` for real: Ray Tune, DeepSpeed and MLflow; killed in every way, it ends as the search left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from mlflow.tracking import MlflowClient

from cluster.recipe import load_recipe
from ground.files import digest_file
from tests.helpers.recipes import small_recipe
from tests.soak.nodes import cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TUNING: dict[str, Any] = {
    # Ends because nothing is left to gain: what kills burn must not decide where it ends.
    "budget": {"value": 400_000},
    "run_budget": {"value": 12_800},
    "space": {"min_steps": 10, "learning_rate": {"low": 1.0e-3, "high": 1.0e-2}},
    "objective": {"epsilon": 0.3},
    "max_concurrent": 2,
    "initial": 4,
    "patience": 50.0,
}
REDONE = "redone"


class Command:
    """`steady tune` in a process of its own."""

    def __init__(self, recipe: Path, *arguments: str, environment: Mapping[str, str] = os.environ) -> None:
        self._log = recipe.parent / f"log-{time.monotonic_ns()}"
        with open(self._log, "w") as log:
            command = [sys.executable, "-m", "cluster", "tune", str(recipe), *arguments]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment)

    @property
    def said(self) -> str:
        return self._log.read_text()

    def wait(self) -> int:
        return self.process.wait(timeout=600)

    def wait_for(self, there: Callable[[], bool], seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while not there():
            assert self.process.poll() is None, self.said[-3000:]
            assert time.monotonic() < end, self.said[-3000:]
            time.sleep(0.1)

    def processes(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        doomed = self.processes()
        self.process.kill()
        for process in doomed:
            if process.is_running():
                process.kill()
        psutil.wait_procs(doomed, timeout=20)
        self.process.wait()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def results(search: Path) -> dict[int, Any]:
    """Job -> what it reported and how it ended; seconds are the machine's affair."""
    found = [row for row in lines(search / "trials.jsonl") if row["kind"] == "result"]
    return {row["job"]["number"]: (row["job"], row["reports"], row["state"]) for row in found}


def charges(search: Path) -> dict[str, float]:
    rows = lines(search / "ledger.jsonl")
    return {row["job"]: row["tokens"] for row in rows if row["kind"] == "settle"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    recipe = small_recipe(tmp_path_factory.mktemp("tune"), tuning=TUNING)
    command = Command(recipe)
    assert command.wait() == 0, command.said[-3000:]
    return recipe, command.said


def test_a_search_from_recipe_to_recipe(undisturbed: tuple[Path, str]) -> None:
    recipe, said = undisturbed
    search = recipe.parent / "work" / "search"
    found = results(search)
    finished = [job for job, _, _ in found.values() if job["end"] >= 12_800 - 512]
    assert len(finished) >= 4
    spent = sum(charges(search).values())
    assert spent == sum(job["end"] - job["start"] for job, _, _ in found.values())
    assert "Traceback" not in said
    best = load_recipe(search / "best.yaml")
    assert best.tuning is None
    assert best.mixture.shares is not None
    assert best.mixture.shares["med"] + best.mixture.shares["wiki"] == pytest.approx(1)
    assert "# Probability that no other finished recipe is better" in (search / "best.yaml").read_text()
    page = (recipe.parent / "work" / "search-report" / "report.html").read_text()
    assert 'src="http' not in page
    done = subprocess.run(
        [sys.executable, "-m", "cluster", "tune", str(recipe), "--status"], capture_output=True, text=True, check=True
    )
    assert f"{spent:,.0f} tokens" in done.stdout


def test_no_data_is_copied(undisturbed: tuple[Path, str]) -> None:
    """Checkpoints of trials that can go on, models of finished ones, records: nothing of the store."""
    recipe, _ = undisturbed
    work = recipe.parent / "work"
    store = {digest_file(path) for path in (work / "store").rglob("*.tokens")}
    assert store
    files = [path for path in (work / "search").rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not store & {digest_file(path) for path in files}
    assert not [path for path in files if path.suffix in (".tokens", ".starts", ".parquet")]
    assert not list((work / "search").glob("trial-*/checkpoints"))  # the search is over


def test_mlflow_has_a_parent_and_a_child_for_each_trial(undisturbed: tuple[Path, str]) -> None:
    recipe, _ = undisturbed
    work = recipe.parent / "work"
    client = MlflowClient(f"sqlite:///{work / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    parent = next(run for run in runs if run.data.tags.get("steady.kind") == "search")
    children = {run.info.run_name: run for run in runs if run.data.tags.get("steady.kind") == "trial"}
    found = results(work / "search")
    assert set(children) == {f"trial-{job['trial']:03d}" for job, _, _ in found.values()}
    for job, reports, _ in found.values():
        run = children[f"trial-{job['trial']:03d}"]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert float(run.data.params["domain_share"]) == pytest.approx(job["point"]["share"], abs=1e-4)
        history = {m.step: m.value for m in client.get_metric_history(run.info.run_id, "domain_loss")}
        assert history[reports[-1]["tokens"]] == pytest.approx(reports[-1]["metrics"]["domain_loss"])
        assert run.info.status == "FINISHED"
    assert any("predicted/domain_loss" in run.data.metrics for run in children.values())
    assert parent.data.metrics["ledger/settled"] == sum(charges(work / "search").values())
    names = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"best.yaml", "report", "plots"} <= names


@pytest.mark.long
def test_the_recipe_found_trains(undisturbed: tuple[Path, str]) -> None:
    recipe, _ = undisturbed
    best = recipe.parent / "work" / "search" / "best.yaml"
    done = subprocess.run(
        [sys.executable, "-m", "cluster", "train", str(best)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (recipe.parent / "work" / "runs" / "small" / "model" / "model.safetensors").is_file()


def test_a_search_that_is_killed_ends_as_the_one_left_alone(undisturbed: tuple[Path, str], tmp_path: Path) -> None:
    """The driver, then a trial's process, then told to stop."""
    recipe = small_recipe(tmp_path, tuning=TUNING)
    search = recipe.parent / "work" / "search"
    command = Command(recipe)
    try:
        command.wait_for(lambda: len(results(search)) >= 3)
        command.kill()
        _within_budget(search)

        command = Command(recipe, "--resume")
        command.wait_for(lambda: len(results(search)) >= 6)
        command.wait_for(lambda: bool(_trials(command)))
        _trials(command)[0].kill()
        command.wait_for(lambda: len(results(search)) >= 8)
        _within_budget(search)

        command.process.send_signal(signal.SIGTERM)
        assert command.wait() == 128 + signal.SIGTERM, command.said[-2000:]
        assert "the same command goes on from there" in command.said
        _within_budget(search)

        command = Command(recipe, "--resume")
        assert command.wait() == 0, command.said[-3000:]
    finally:
        command.kill()
    expected = undisturbed[0].parent / "work" / "search"
    # Jobs that a kill ended had trained since their last checkpoint, and nothing else was trained twice.
    assert _burned(search, expected) <= 3 * 2 * 3200
    again = yaml.safe_load((search / "best.yaml").read_text())
    assert again["mixture"] == yaml.safe_load((expected / "best.yaml").read_text())["mixture"]


@pytest.mark.long
def test_a_search_whose_node_is_killed_ends_as_the_one_left_alone(
    undisturbed: tuple[Path, str], tmp_path: Path
) -> None:
    """On a cluster, by the address in the environment: a node dies with the trial on it, another takes its place."""
    recipe = small_recipe(tmp_path, tuning=TUNING)
    search = recipe.parent / "work" / "search"
    with cluster(workers=2) as ray:
        command = Command(recipe, environment=ray.environment)
        try:
            command.wait_for(lambda: len(results(search)) >= 3)
            command.wait_for(lambda: any(node.processes("ray::_Trial") for node in ray.nodes))
            doomed = next(node for node in ray.nodes if node.processes("ray::_Trial"))
            ray.settle(ray.replace(doomed))
            assert command.wait() == 0, command.said[-3000:]
        finally:
            command.kill()
    expected = undisturbed[0].parent / "work" / "search"
    assert _burned(search, expected) <= 3200


@pytest.mark.long
def test_a_finished_search_gets_more_budget(undisturbed: tuple[Path, str], tmp_path: Path) -> None:
    """Another search that knows the first one needs no first design."""
    first = undisturbed[0].parent / "work"
    recipe = small_recipe(tmp_path, tuning=TUNING | {"earlier": [str(first)], "budget": {"value": 25_600}})
    store = f"curation.store={first / 'store'}"
    command = Command(recipe, store)
    assert command.wait() == 0, command.said[-3000:]
    known = len({job["trial"] for job, _, _ in results(first / "search").values()})
    assert f"of earlier searches {known} trials are known, 0 recipes are tried first" in command.said
    reasons = [job["reason"] for job, _, _ in results(recipe.parent / "work" / "search").values()]
    assert "first design" not in reasons
    refused = Command(recipe, store, f"tuning.earlier=[{tmp_path}]", f"work={tmp_path / 'other'}")
    assert refused.wait() == 2
    assert "tuning.earlier: there is no search in" in refused.said


@pytest.mark.long
def test_trials_of_two_workers_are_nested_runs(tmp_path: Path) -> None:
    tuning = TUNING | {"budget": {"value": 12_800}, "run_budget": {"value": 6_400}, "rungs": [0.25, 1.0]}
    tuning |= {"max_concurrent": 1}
    training = {
        "sequence_length": 64,
        "global_batch_tokens": 512,
        "micro_batch": 4,
        "learning_rate": 3.0e-3,
        "accelerator": "cpu",
        "threads": 1,
        "workers": 2,
    }
    recipe = small_recipe(tmp_path, tuning=tuning, training=training)
    command = Command(recipe, "tuning.max_concurrent=9")
    assert command.wait() == 2
    assert "9 trials x 2 workers need 18 CPUs, the cluster has" in command.said
    command = Command(recipe)
    try:
        assert command.wait() == 0, command.said[-3000:]
    finally:
        command.kill()
    search = recipe.parent / "work" / "search"
    assert any(job["end"] == 6_144 for job, _, _ in results(search).values())
    assert sum(charges(search).values()) <= 12_800


def _burned(search: Path, expected: Path) -> float:
    """Tokens trained twice; all else is as in the search left alone."""
    assert results(search) == results(expected)
    burned = {name: tokens for name, tokens in charges(search).items() if name.startswith(REDONE)}
    assert {name: tokens for name, tokens in charges(search).items() if name not in burned} == charges(expected)
    return sum(burned.values())


def _trials(command: Command) -> list[psutil.Process]:
    """Processes of trials that are at work."""
    found = []
    for process in command.processes():
        try:
            if process.cmdline()[:1] and "_Trial" in process.cmdline()[0]:
                found.append(process)
        except psutil.Error:
            continue
    return found


def _within_budget(search: Path) -> None:
    """The ledger, and what the trials' own records say, stay within the budget and agree to one record."""
    account = charges(search)
    assert sum(account.values()) <= TUNING["budget"]["value"]
    for number, (job, reports, _) in results(search).items():
        # A result whose settlement is still to come is settled by the next line, or at the next start.
        assert (
            account.get(f"job {number}", reports[-1]["tokens"] - job["start"]) == reports[-1]["tokens"] - job["start"]
        )
