"""Steady under Ray Train beside another training program that torchrun starts: the same job, step by step in turn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import steady_side
from benchmarks.harness import ROOT, Measured, paired_ratio, spread
from benchmarks.other_side import LOSSES, write_rows
from benchmarks.training_sample import BATCH_TOKENS, sample_job, sample_store, settings, uncounted_steps
from benchmarks.turns import GATE, Referee, Turns
from pipelines.store import TokenStore
from training.job import Job

WORLDS = (1, 2)
STEPS = 46
"""Of each program; those that warm up or have held-out losses measured after them do not count."""

_SAME_LOSS = 1e-4
_STARTING_SECONDS = 300.0
_ENDING_SECONDS = 120.0


def compare(
    module: str, name: str, *, steps: int = STEPS, worlds: Sequence[int] = WORLDS, stage: int | None = None
) -> Measured:
    """Speed of Steady over that of the program in ``benchmarks/<module>.py``: the smallest of all numbers of workers.

    Args:
        name: of the program, for the reader.
        steps: of each program.
        stage: of ZeRO; absent: the recipe's default.
    """
    with tempfile.TemporaryDirectory() as scratch:
        store = sample_store(Path(scratch) / "store")
        jobs = {
            world: sample_job(store, Path(scratch) / f"run-{world}", steps=steps, world=world, stage=stage)
            for world in worlds
        }
        found = {world: _one(module, store, job, steps) for world, job in jobs.items()}
    slowest = min(worlds, key=lambda world: found[world]["ratio"]["median"])
    speed = BATCH_TOKENS / found[slowest]["other_step_s"]["median"]
    workers = "1 worker" if slowest == 1 else f"{slowest} workers"
    return Measured(
        found[slowest]["ratio"]["median"],
        {"name": f"{name}, {workers}", "value": speed, "unit": "tokens/s"},
        {f"workers_{world}": part for world, part in found.items()} | settings(jobs[slowest]),
    )


def _one(module: str, store: TokenStore, job: Job, steps: int) -> dict[str, Any]:
    """One number of workers."""
    folder = Path(job.folder)
    folder.mkdir()
    job_file = folder / "job.json"
    job_file.write_text(job.model_dump_json())
    write_rows(store, job)
    world = job.training.workers
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={world}", "-m", f"benchmarks.{module}"]
    turns = _take_turns(
        folder,
        {"steady": ["benchmarks.steady_side", str(job_file)], "other": [*torchrun, str(job_file)]},
        world,
        steps - 1,  # the last one has no gate behind it
    )
    steady = steady_side.read(folder)
    curve = [record["metrics"]["train/loss"] for record in steady["records"] if "train/loss" in record["metrics"]]
    difference = largest_difference(curve, json.loads((folder / LOSSES).read_text())["losses"])

    counted = [step - 1 for step in range(1, steps) if step not in uncounted_steps(job, steps)]
    ours, other = (_chosen(turns[side], counted) for side in ("steady", "other"))
    return {
        "ratio": paired_ratio(ours.seconds, other.seconds),
        "ratio_of_processor_time": paired_ratio(ours.processor_seconds, other.processor_seconds),
        "steady_step_s": spread(ours.seconds),
        "other_step_s": spread(other.seconds),
        "steady_delayed_s": spread(ours.delayed_seconds),
        "other_delayed_s": spread(other.delayed_seconds),
        "pairs": len(counted),
        "largest_loss_difference": difference,
        "cores_of_driver_and_ray": steady["around_cores"],
    }


def largest_difference(ours: Sequence[float], other: Sequence[float]) -> float:
    """Of two courses of the loss, step by step.

    Raises:
        RuntimeError: they are not of the same length, or differ by more than rounding: not the same work was done.
    """
    differences = [abs(a - b) for a, b in zip(ours, other, strict=False)]
    if len(ours) != len(other) or not all(difference < _SAME_LOSS for difference in differences):  # so NaN differs too
        raise RuntimeError(f"the programs differ: {len(ours)} and {len(other)} steps, losses by {differences}")
    return max(differences)


def _chosen(turns: Turns, counted: Sequence[int]) -> Turns:
    return Turns(*([values[i] for i in counted] for values in vars(turns).values()))


def _take_turns(folder: Path, modules: dict[str, list[str]], world: int, steps: int) -> dict[str, Turns]:
    """Start the programs, let them take turns, and wait for their end."""
    gate = folder / "gate"
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        GATE: str(gate),
    }
    environment.pop("RAY_ADDRESS", None)
    programs: dict[str, subprocess.Popen[bytes]] = {}

    def check() -> None:
        for side, program in programs.items():
            if program.poll():
                raise RuntimeError(f"{side} ended with {program.returncode}:\n{_tail(folder / f'{side}.log')}")

    referee = Referee(gate, dict.fromkeys(modules, world), check)
    try:
        for side, arguments in modules.items():
            with open(folder / f"{side}.log", "wb") as log:
                programs[side] = subprocess.Popen(
                    [sys.executable, "-m", *arguments],
                    cwd=ROOT,
                    env=environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        turns = referee.play(steps, starting_seconds=_STARTING_SECONDS)
        for program in programs.values():
            program.wait(_ENDING_SECONDS)
        check()
    finally:
        referee.close()
        for program in programs.values():
            if program.poll() is None:
                os.killpg(program.pid, signal.SIGTERM)
                program.wait(_ENDING_SECONDS)
    return turns


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
