"""The Slurm script on a real Slurm of two nodes, with real Ray nodes: a run is told to stop, goes back into the queue and on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.definitions import DEPLOY
from tests.helpers.machines import SHARED, Machine, Network, network
from tests.helpers.recipes import long_recipe
from tests.helpers.slurm import Slurm, missing_for_slurm

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(missing_for_slurm() is not None, reason=str(missing_for_slurm())),
]

_STEPS = 150
_BATCH = 2048
_ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "")


@pytest.fixture
def machines() -> Iterator[Network]:
    with network("login", "n1", "n2", loopback_names=True) as found:
        yield found


def test_a_run_stops_with_a_checkpoint_and_goes_on_from_the_queue(machines: Network, tmp_path: Path) -> None:
    login, *nodes = (machines.machine(name) for name in ("login", "n1", "n2"))
    slurm = Slurm(login, nodes, tmp_path)
    corpora = f"{SHARED}/corpora"
    long_recipe(machines.shared, "my", work=f"{SHARED}/my", steps=_STEPS, batch_tokens=_BATCH, corpora=corpora)
    sbatch = [
        *("env", "--chdir", str(DEPLOY.parent)),  # a checkout that all nodes see
        *("sbatch", "--parsable", "--nodes=2", "--gpus-per-node=0"),
        f"--output={SHARED}/%j.log",
    ]
    script = str(DEPLOY / "slurm/steady.sbatch")
    # As a user's shell gives them to the job.
    slurm.environment |= {"STEADY_VENV": sys.prefix, "STEADY_SECRETS": SHARED, "RAY_raylet_start_wait_time_s": "120"}

    curate = slurm.run(*sbatch, "--cpus-per-task=2", script, "curate", f"{SHARED}/my.yaml")
    said = machines.shared / f"{curate}.log"
    _until(lambda: all(_processors(node, "raylet") for node in nodes) or slurm.state(curate) in _ENDED, said)
    assert {_processors(node, "raylet") for node in nodes} == {2}, "a step of Slurm has fewer than the job"
    _until(lambda: slurm.state(curate) in _ENDED, said)
    assert slurm.state(curate) in ("COMPLETED", ""), said.read_text()
    assert "steady.sbatch: 2 nodes, 0 GPUs" in said.read_text()
    assert (machines.shared / "my/store/COMPLETE").is_file()

    train = slurm.run(*sbatch, "--cpus-per-task=1", script, "train", f"{SHARED}/my.yaml", "training.workers=2")
    said = machines.shared / f"{train}.log"
    _until(lambda: len(_steps(machines.shared)) > 5 or slurm.state(train) in _ENDED, said)
    slurm.run("scancel", "--signal=TERM", "--batch", train)
    _until(lambda: "checkpoint written, going back into the queue" in said.read_text(), said)
    stopped = max(_steps(machines.shared))
    assert stopped < _STEPS
    assert (machines.shared / f"my/runs/my/checkpoints/step-{stopped}").is_dir()
    _until(lambda: slurm.state(train) in _ENDED, said)
    assert slurm.state(train) in ("COMPLETED", ""), said.read_text()
    assert sorted(_steps(machines.shared)) == list(range(1, _STEPS + 1))
    assert list(machines.shared.glob(".steady-*")) == [], "a token was left"
    assert [_processors(node, "raylet") for node in nodes] == [0, 0], "Ray was left"


def _processors(node: Machine, name: str) -> int:
    """How many processors a program of a machine may use; 0 if it does not run."""
    done = node.run("sh", "-c", f"for p in $(pgrep -x {name}); do taskset -pc $p; done")
    listed = [line.split(": ")[1] for line in done.stdout.splitlines() if ": " in line]
    return sum(
        int(b or a) - int(a) + 1 for a, _, b in (part.partition("-") for line in listed[:1] for part in line.split(","))
    )


def _steps(shared: Path) -> list[int]:
    """Steps whose loss the run has recorded, in the order of recording."""
    spool = shared / "my/runs/my/spool.jsonl"
    lines = spool.read_bytes().split(b"\n")[:-1] if spool.is_file() else []
    records = [record for record in map(json.loads, lines) if "metrics" in record]
    return [record["step"] for record in records if "train/loss" in record["metrics"]]


def _until(holds: Callable[[], bool], log: Path) -> None:
    end = time.monotonic() + 500
    while not holds():
        assert time.monotonic() < end, log.read_text()[-3000:] if log.is_file() else "nothing was said"
        time.sleep(0.5)
