"""A cluster of machines that share one folder and nothing else, and a desk that does not even share that.

Each has an address, processes, a home and a /tmp of its own (namespaces), and its own name means 127.0.1.1 to it, as Debian
installs it. So what a cluster of Ray processes on one machine cannot show is shown here: which address a worker listens on, what
lies in a folder that other nodes do not have, and what a desk can see.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.test_tune import TUNING
from tests.helpers.browser import look_at_a_job, missing_for_a_browser
from tests.helpers.machines import HOME, SHARED, Machine, missing_for_machines, network
from tests.helpers.recipes import long_recipe

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(missing_for_machines() is not None, reason=str(missing_for_machines())),
]

_STEPS = 200
_BATCH = 2048
_LIGHT = ("--disable-usage-stats", f"--object-store-memory={100 << 20}")
_PATIENT = {  # the cores here are few, and a dead machine is to be noticed in seconds
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
_MLFLOW = "http://head:5000"
_BUDGET = 60_000
_TUNING = {name: value for name, value in TUNING.items() if name != "patience"} | {"budget": {"value": _BUDGET}}
_SUBMIT = ("submit", "--address", "http://head:8265", "--wait", "--")

_ASK = """
import json, mlflow
client = mlflow.MlflowClient()
(run,) = [r for e in client.search_experiments() for r in client.search_runs([e.experiment_id]) if "train/loss" in r.data.metrics]
history = client.get_metric_history(run.info.run_id, "train/loss")
print(json.dumps({"tokens": sorted(point.step for point in history), "metrics": sorted(run.data.metrics)}))
"""


class Site:
    """The machines, and what runs on them."""

    def __init__(self, machines: Any, folder: Path) -> None:
        self.network, self.folder = machines, folder
        self.shared: Path = machines.shared
        self.head: Machine = machines.machine("head")
        self.desk: Machine = machines.machine("desk", shares=False)
        self.nodes: dict[str, Machine] = {}
        exports = (export.split("=") for _, export in _tutorial("every machine"))
        self.environment: dict[str, str] = _PATIENT | dict(exports)
        self.running: list[subprocess.Popen[bytes]] = []

    def start_head(self) -> None:
        """As the tutorial says it."""
        for command in _tutorial("first machine", self.head.address):
            more = ("--num-cpus=0", *_LIGHT) if "start" in command else ()
            done = self.head.run(*command, *more, **self.environment)
            assert done.returncode == 0, done.stdout
        written = self.head.path(f"{HOME}/.ray/auth_token")
        written.chmod(0o600)
        self.token = written.read_text()
        self._give_token(self.desk)

    def start_node(self, name: str) -> Machine:
        """A machine with room for one worker, as the tutorial says it."""
        node = self.nodes[name] = self.network.machine(name)
        self._give_token(node)
        (command,) = _tutorial("every other one", self.head.address)
        done = node.run(*command, "--num-cpus=1", *_LIGHT, **self.environment)
        assert done.returncode == 0, done.stdout
        return node

    def start(self, machine: Machine, *command: str, **environment: str) -> tuple[subprocess.Popen[bytes], Path]:
        """Start a command; it, and the file of what it says."""
        log = self.folder / f"said-{len(self.running)}"
        self.running.append(machine.start(*command, log=log, **environment))
        return self.running[-1], log

    def steady(self, *arguments: str) -> tuple[int, str]:
        """Run ``steady`` at the desk."""
        done = self.desk.run(sys.executable, "-m", "cluster", *arguments, seconds=900)
        return done.returncode, done.stdout

    def recipe(self, name: str, **changes: Any) -> None:
        """A recipe and its corpora in the desk's home."""
        tracking = {"uri": _MLFLOW, "system_metrics_interval_s": 2}
        store = {"store": f"{SHARED}/store", "train_tokenizer": {"vocabulary": 300}, "heldout_fraction": 0.1}
        long_recipe(
            self.folder / name,
            name,
            work=f"{SHARED}/{name}",
            steps=_STEPS,
            batch_tokens=_BATCH,
            **{"curation": store, "tracking": tracking} | changes,
        )
        self.desk.copy(self.folder / name, HOME)

    def serve_mlflow(self, recipe: str) -> None:
        """On the head, for whoever reaches it."""
        (self.shared / recipe).write_bytes(self.desk.path(f"{HOME}/{recipe}").read_bytes())
        serve = ["--serve", "--host", "0.0.0.0", "--port", "5000", "--allow-host", "head:5000"]
        self.start(self.head, sys.executable, "-m", "cluster", "ui", f"{SHARED}/{recipe}", *serve)
        _until(lambda: self.desk.run("curl", "--fail", f"{_MLFLOW}/health").returncode == 0)

    def ask_mlflow(self) -> Any:
        """What a colleague at the desk asks it: the one run's tokens with a loss, and all its metrics."""
        done = self.desk.run(sys.executable, "-W", "ignore", "-c", _ASK, MLFLOW_TRACKING_URI=_MLFLOW)
        return json.loads(done.stdout.splitlines()[-1])

    def steps(self, name: str) -> list[int]:
        """Steps whose loss a run has recorded, in the order of recording."""
        spool = self.shared / name / "runs" / name / "spool.jsonl"
        lines = spool.read_bytes().split(b"\n")[:-1] if spool.is_file() else []
        records = [record for record in map(json.loads, lines) if "metrics" in record]
        return [record["step"] for record in records if "train/loss" in record["metrics"]]

    def _give_token(self, machine: Machine) -> None:
        folder = machine.path(f"{HOME}/.ray")
        folder.mkdir(mode=0o700)
        (folder / "auth_token").write_text(self.token)
        (folder / "auth_token").chmod(0o600)


def _tutorial(where: str, head: str = "") -> list[list[str]]:
    """Commands that the tutorial has people type on a machine.

    Args:
        head: address of the first one.
    """
    lines = (Path(__file__).parents[2] / "docs/tutorials/cluster.md").read_text().splitlines()
    found = [line.partition("#")[0].replace("HEAD", head).split() for line in lines if line.endswith(f"# {where}")]
    assert found, where
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with network("head", "desk", "one", "two", "three", loopback_names=True) as machines:
        site = Site(machines, tmp_path_factory.mktemp("site"))
        site.start_head()
        for name in ("one", "two"):
            site.start_node(name)
        yield site


def test_a_desk_curates_and_trains_on_machines_and_one_loses_power(site: Site) -> None:
    site.recipe("my")
    code, said = site.steady(*_SUBMIT, "curate", "my.yaml", "tracking.uri=http://127.0.0.1:5000")
    assert code == 2, said
    assert "MLflow" in said and "does not answer" in said, said

    site.serve_mlflow("my.yaml")
    code, said = site.steady(*_SUBMIT, "doctor", "my.yaml")
    assert code == 0, said
    assert "by token" in said, said
    code, said = site.steady(*_SUBMIT, "curate", "my.yaml")
    assert code == 0, said
    assert f"{SHARED}/my is shared and writable on 3 node(s)" in said, said

    training, log = site.start(
        site.desk, sys.executable, "-m", "cluster", *_SUBMIT, "train", "my.yaml", "training.workers=2"
    )
    _until(lambda: len(site.steps("my")) > 12, training, log)
    at = max(site.steps("my"))
    site.nodes["one"].lose_power()
    site.start_node("three")
    assert training.wait(900) == 0, log.read_text()
    said = log.read_text()
    assert at < _STEPS, "the power was lost when all was over"
    assert "the workers start again (1 of 5)" in said, said
    assert sorted(site.steps("my")) == list(range(1, _STEPS + 1))
    told = site.ask_mlflow()
    assert told["tokens"] == [_BATCH * step for step in range(1, _STEPS + 1)]
    assert any(name.startswith("system/node_") for name in told["metrics"]), "the nodes' use was not recorded"
    if missing_for_a_browser() is None:
        job = next(line.split()[1] for line in said.splitlines() if line.startswith("job "))
        dashboard = f"http://{site.head.address}:8265"
        look_at_a_job(site.folder / "chromium", dashboard, site.token, job, "SUCCEEDED", "python -m cluster train")


def test_a_search_on_machines(site: Site) -> None:
    assert (site.shared / "store/COMPLETE").is_file(), "the test before this one makes it"
    site.recipe("search", tuning=_TUNING, mixture={"shares": {"med": 0.8, "wiki": 0.2}, "subset_tokens": 6400})
    small = ["training.global_batch_tokens=512", "training.checkpoint_tokens=5120"]
    code, said = site.steady(*_SUBMIT, "tune", "search.yaml", *small)
    assert code == 0, said
    search = site.shared / "search/search"
    rows = [json.loads(line) for line in (search / "ledger.jsonl").read_text().splitlines()]
    settled = [row["tokens"] for row in rows if row["kind"] == "settle"]
    assert len(settled) >= 4 and sum(settled) <= _BUDGET
    assert (search / "best.yaml").is_file()


def _until(holds: Callable[[], bool], process: subprocess.Popen[bytes] | None = None, log: Path | None = None) -> None:
    end = time.monotonic() + 400
    while not holds():
        if process is not None and process.poll() is not None:
            pytest.fail(f"ended early: {log.read_text()[-3000:] if log else ''}")
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.3)
