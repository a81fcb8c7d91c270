"""Steady's side of a comparison: ``python -m benchmarks.steady_side JOB.json`` runs the job under Ray Train, as
`steady train` does.

If the environment names a gate, every worker waits there for its turn before each step. What it finds goes to ``steady.json``
in the job's folder.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.turns import GATE, Gate
from ground.files import canonical_json, write_atomic
from training.job import Job, Record

RESULT = "steady.json"
_STEP = "step "  # how the loop names what it begins
_WORKER = "RayTrainWorker"  # how Ray names the processes that train


def gated_work(config: dict[str, Any]) -> None:
    """What every Ray Train worker runs, with a gate where the loop tells its watchdog that a step begins."""
    from training import launch_worker

    class Gated(launch_worker._RayControl):
        """Waits for its turn."""

        def __init__(self, mailbox: Any, rank: int, watchdog: Any) -> None:
            super().__init__(mailbox, rank, watchdog)
            self._gate = Gate("steady", rank)

        def tick(self, doing: str) -> None:
            super().tick(doing)
            if doing.startswith(_STEP):
                self._gate.wait()

    launch_worker._RayControl = Gated  # type: ignore[misc]
    launch_worker.work(config)


def main(path: Path) -> None:
    """Run the job; keep its records and how much processor time went into what is neither worker nor waiting."""
    from cluster.session import session
    from training import launch

    job = Job.model_validate_json(path.read_text())
    if GATE in os.environ:
        vars(launch)["work"] = gated_work
    records: list[Record] = []
    around: list[tuple[float, float]] = []
    with session():

        def take(record: Record) -> None:
            records.append(record)
            if "train/loss" not in record["metrics"]:  # after an evaluation, which no one times
                around.append((time.perf_counter(), _around_seconds()))

        launch.launch(job, take, use_gpu=False)
    (first, before), (last, after) = around[0], around[-2]  # at the end Ray's processes may have gone
    content = {"records": records, "around_cores": (after - before) / (last - first)}
    write_atomic(Path(job.folder) / RESULT, canonical_json(content))


def read(folder: Path) -> dict[str, Any]:
    """What ``main`` wrote: ``records``, and ``around_cores``: processor time of driver and Ray, in cores."""
    found: dict[str, Any] = json.loads((folder / RESULT).read_text())
    return found


def _around_seconds() -> float:
    """Processor time of this process and of Ray's own."""
    total = time.process_time()
    for child in psutil.Process().children(recursive=True):
        try:
            if _WORKER not in child.name():
                times = child.cpu_times()
                total += times.user + times.system
        except psutil.Error:  # it has just ended
            continue
    return total


if __name__ == "__main__":
    from benchmarks.steady_side import main as importable  # Ray's workers cannot import __main__

    importable(Path(sys.argv[1]))
