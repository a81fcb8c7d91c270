"""Jobs on a real cluster with token authentication: submitted, a node lost under them, beside each other, stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.recipe import load_recipe
from tests.cluster.test_tune import TUNING
from tests.helpers.browser import look_at_a_job, missing_for_a_browser
from tests.helpers.recipes import long_recipe
from tests.soak.nodes import WORKER, Cluster, Node, cluster
from training.job import Record

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

_SECRET = "planted-3b1f77"
_PLANTED = ("MLFLOW_TRACKING_PASSWORD", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DATABASE_PASSWORD")
_STEPS = 240
_BATCH = 2048
_SMALL = ["training.global_batch_tokens=512", "training.checkpoint_tokens=5120"]
_TUNING = {name: value for name, value in TUNING.items() if name != "patience"} | {"budget": {"value": 60_000}}


class Desk:
    """A machine outside the cluster: a project folder, and ``steady`` run in it."""

    def __init__(self, nodes: Cluster, folder: Path) -> None:
        self.nodes, self.folder = nodes, folder
        self.shared = folder / "shared"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
            "RAY_AUTH_TOKEN": nodes.environment["RAY_AUTH_TOKEN"],
            **dict.fromkeys(_PLANTED, _SECRET),
        }
        self.said: list[str] = []
        self.started: list[subprocess.Popen[str]] = []

    def recipe(self, name: str, **changes: Any) -> None:
        """A folder with a recipe of this name and work folder; all share a store."""
        store = {"store": str(self.shared / "store"), "train_tokenizer": {"vocabulary": 300}, "heldout_fraction": 0.1}
        long_recipe(
            self.project(name),
            name,
            work=str(self.shared / name),
            steps=_STEPS,
            batch_tokens=_BATCH,
            **{"curation": store} | changes,
        )

    def project(self, name: str) -> Path:
        """The folder of a recipe."""
        return self.folder / "projects" / name

    def start(self, *arguments: str, project: str = "first") -> subprocess.Popen[str]:
        """Start a command in the folder of a recipe."""
        line = [sys.executable, "-m", "cluster", *arguments]
        return self._start(line, project, {"PYTHONPATH": str(Path(__file__).parents[2])})

    def steady(self, *arguments: str) -> tuple[int, str]:
        """Run ``steady`` to its end; exit code and all it said."""
        return self.end_of(self.start(*arguments))

    def start_ray(self, *arguments: str) -> subprocess.Popen[str]:
        """Start ``ray job`` in the folder of the second recipe."""
        line = [str(Path(sys.executable).with_name("ray")), "job", *arguments]
        return self._start(line, "second", {"RAY_AUTH_MODE": "token"})

    def end_of(self, process: subprocess.Popen[str], seconds: float = 600) -> tuple[int, str]:
        """Wait for a command that was started."""
        out, _ = process.communicate(timeout=seconds)
        self.said.append(out)
        return process.returncode, out

    def records(self, name: str) -> list[Record]:
        """What a run has recorded so far."""
        spool = self.shared / name / "runs" / name / "spool.jsonl"
        lines = spool.read_bytes().split(b"\n")[:-1] if spool.is_file() else []
        return [record for record in map(json.loads, lines) if "metrics" in record]

    def steps(self, name: str) -> list[int]:
        """Steps whose loss a run has recorded, in the order of recording."""
        return [record["step"] for record in self.records(name) if "train/loss" in record["metrics"]]

    def busy(self) -> list[Node]:
        """Nodes with a worker of a run."""
        return [node for node in self.nodes.nodes if node.processes(WORKER)]

    def _start(self, line: list[str], name: str, more: dict[str, str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["env", "--default-signal=INT", *line],  # a shell that put the tests in the background made them deaf to it
            cwd=self.project(name),
            env=self.environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with cluster(3, dashboard=True) as nodes:
        desk = Desk(nodes, tmp_path_factory.mktemp("desk"))
        yield desk
        for process in desk.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        nodes.stop()
        assert nodes.left() == []


def test_curate_train_lose_a_node_stop_and_leave_nothing(desk: Desk) -> None:
    here = ["--address", desk.nodes.dashboard]
    submit = ["submit", *here, "--python", sys.executable]
    desk.recipe("first")
    desk.recipe("second")
    (desk.project("first") / ".env").write_text(f"HF_TOKEN={_SECRET}\n")  # Ray itself would upload it

    code, said = desk.steady(*submit, "--", "train", "first.yaml")
    assert code == 2, said
    assert "there is no whole token store" in said and "submit `curate first.yaml` first" in said, said

    code, said = desk.steady(*submit, "--wait", "--", "curate", "first.yaml")
    assert code == 0, said
    assert (desk.shared / "store" / "COMPLETE").is_file()
    assert "is shared and writable on 4 node(s)" in said and "SUCCEEDED" in said

    # Two jobs beside each other, each worker on a node of its own. The second one comes by Ray's own command, which says
    # nothing about stopping, and goes on until it is stopped; the first is followed by its submitter.
    train = [sys.executable, "-m", "cluster", "train", "second.yaml", "mixture.epochs=100000"]
    second = desk.start_ray(
        "submit", *here, "--no-wait", "--working-dir", ".", "--submission-id", "second", "--", *train
    )
    code, said = desk.end_of(second)
    assert code == 0, said
    _until(lambda: len(desk.busy()) == 1)
    (of_second,) = desk.busy()
    follower = desk.start(*submit, "--wait", "--", "train", "first.yaml", "training.workers=2")
    _until(lambda: len(desk.busy()) == 3, follower)
    _until(lambda: len(desk.steps("first")) > 12, follower)
    follower.send_signal(signal.SIGINT)
    code, said = desk.end_of(follower)
    assert code == 130, said
    job = next(line.split()[1] for line in said.splitlines() if line.startswith("job "))
    assert f"{job} goes on. Follow it: steady jobs logs {job} --follow" in said
    assert f"{desk.nodes.dashboard}/#/jobs/{job}" in said and "steady ui first.yaml" in said
    at = max(desk.steps("first"))
    desk.nodes.settle(desk.nodes.replace(next(node for node in desk.nodes.nodes if node is not of_second)))

    code, said = desk.steady("jobs", "logs", *here, job, "--follow")
    assert code == 0, said
    assert at < _STEPS, "the node was lost when all was over"
    assert "the workers start again (1 of 5)" in said
    assert sorted(desk.steps("first")) == list(range(1, _STEPS + 1))

    _until(lambda: len(desk.steps("second")) > 3)
    code, said = desk.steady("jobs", "stop", *here, "second")
    assert code == 0, said
    stopped = max(desk.steps("second"))
    assert f"second stopped after step {stopped}; the same command goes on from there" in said
    assert (desk.shared / "second" / "runs" / "second" / "checkpoints" / f"step-{stopped}").is_dir()

    # A search, sent from where its recipe lies; its best recipe comes back by the shared folder.
    desk.recipe("search", tuning=_TUNING, mixture={"shares": {"med": 0.8, "wiki": 0.2}, "subset_tokens": 6400})
    searching = desk.start(*submit, "--wait", "--", "tune", "search.yaml", *_SMALL, project="search")
    code, said = desk.end_of(searching, 900)
    assert code == 0, said
    search = desk.shared / "search" / "search"
    assert load_recipe(search / "best.yaml").tuning is None
    settled = [row for row in _lines(search / "ledger.jsonl") if row["kind"] == "settle"]
    assert len(settled) >= 4 and sum(row["tokens"] for row in settled) <= _TUNING["budget"]["value"]
    assert (desk.shared / "search" / "search-report" / "report.html").is_file()

    # One that would not listen.
    deaf = ["sh", "-c", "trap '' TERM; exec sleep 9876"]
    code, said = desk.end_of(desk.start_ray("submit", *here, "--no-wait", "--submission-id", "deaf", "--", *deaf))
    assert code == 0, said
    _until(lambda: _sleeping(desk))
    code, said = desk.steady("jobs", "stop", *here, "--python", sys.executable, "deaf", "--now")
    assert code == 0, said
    _until(lambda: not _sleeping(desk))

    code, said = desk.steady("jobs", "list", *here)
    assert code == 0, said
    status = {line.split()[0]: line.split()[1] for line in said.splitlines()[1:] if line.strip()}
    assert status[job] == "SUCCEEDED" and status["second"] == "STOPPED"
    assert not any(name.startswith("steady-preflight") for name in status)

    if missing_for_a_browser() is None:
        token = desk.environment["RAY_AUTH_TOKEN"]
        look_at_a_job(desk.folder / "chromium", desk.nodes.dashboard, token, job, "SUCCEEDED", "train first.yaml")
    _until(lambda: desk.nodes.left_of_runs() == [])
    _no_secret(desk)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _sleeping(desk: Desk) -> bool:
    assert desk.nodes.head is not None
    return bool(desk.nodes.head.processes("sleep 9876"))


def _until(holds: Callable[[], bool], process: subprocess.Popen[str] | None = None, seconds: float = 400) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if process is not None and process.poll() is not None:
            pytest.fail(f"ended early: {process.communicate()[0][-3000:]}")
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def _no_secret(desk: Desk) -> None:
    """Neither what the commands said, nor the jobs' pages, nor any file of a run or of Ray holds a secret."""
    token = desk.environment["RAY_AUTH_TOKEN"]
    request = urllib.request.Request(f"{desk.nodes.dashboard}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request) as answer:
        pages = answer.read().decode()
    assert "second.yaml" in pages
    texts = {"the commands": "\n".join(desk.said), "the jobs' pages": pages}
    files = [path for root in (desk.shared, desk.nodes.folder) for path in root.rglob("*") if path.is_file()]
    assert any(path.name == "first.yaml" for path in files), "the upload was not looked at"
    for secret in (_SECRET, token):
        assert [where for where, text in texts.items() if secret in text] == []
        assert [path for path in files if path.is_file() and secret.encode() in path.read_bytes()] == []
