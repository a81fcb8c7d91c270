"""What asynchronous checkpoints cost a run.

A run under Ray Train writes a checkpoint every few steps. The steps while one is taken and written (and a few after) are
held against the steps between, of which nothing is being written: the sum of what they take longer is the cost of one
checkpoint, whether the loop waited or the writing slowed it down. Divided by 200 ordinary steps it is the share of a run
with one checkpoint per 200 steps. With two workers both cores are busy, so that writing takes its time from training.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Benchmark, Measured, spread
from benchmarks.training_sample import sample_job, sample_store, settings, uncounted_steps
from pipelines.store import TokenStore
from training.checkpoint import CHECKPOINTS, checkpoint_folder
from training.job import Record

_WORLDS = (1, 2)
_EVERY = 9  # no held-out losses are measured in the steps after a checkpoint then
_CHECKPOINTS = 5
_STEPS_BETWEEN = 200


@dataclass(frozen=True)
class Cost:
    """Of one checkpoint, in seconds."""

    extra: float
    """What training lost in all."""
    held: float
    """Of that, in the one step at whose end it was taken."""


def run(every: int = _EVERY, checkpoints: int = _CHECKPOINTS) -> Measured:
    """One and two workers; the value is the larger share.

    Args:
        every: steps between two checkpoints.
        checkpoints: how many are measured.
    """
    from cluster.session import session

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch, session():
        store = sample_store(Path(scratch) / "store")
        for world in _WORLDS:
            found[f"workers_{world}"] = _one(store, Path(scratch) / f"run-{world}", world, every, checkpoints)
        described = settings(sample_job(store, Path(scratch), steps=1, world=1))
    value = max(part["share"] for part in found.values())
    return Measured(value, None, found | described | {"steps_between_checkpoints": _STEPS_BETWEEN})


def _one(store: TokenStore, folder: Path, world: int, every: int, checkpoints: int) -> dict[str, Any]:
    from training.launch import launch

    steps = (checkpoints + 2) * every  # the first spell warms up, the last one ends with the run's own end
    job = sample_job(store, folder, steps=steps, world=world, checkpoint_steps=every)
    records: list[Record] = []
    launch(job, records.append, use_gpu=False)
    ends = {r["step"]: r["time_ms"] / 1000 for r in records if "train/loss" in r["metrics"]}
    seconds = {step: ends[step] - ends[step - 1] for step in ends if step - 1 in ends}
    written = {step: _written(folder, step) for step in range(every, (checkpoints + 1) * every, every)}
    uncounted = {step + 1 for step in uncounted_steps(job, steps)}  # what follows a record falls into the next interval
    costs, quiet = checkpoint_costs(seconds, ends, written, uncounted)
    extra = statistics.median(cost.extra for cost in costs)
    ordinary = statistics.median(quiet)
    return {
        "share": max(0.0, extra) / (_STEPS_BETWEEN * ordinary),
        "extra_s": spread([cost.extra for cost in costs]),
        "held_s": spread([cost.held for cost in costs]),
        "writing_s": spread([written[step] - ends[step] for step in written]),
        "ordinary_step_s": spread(quiet),
        "checkpoints": len(costs),
        "checkpoint_bytes": _size(checkpoint_folder(folder / CHECKPOINTS, every)),
    }


def checkpoint_costs(
    seconds: Mapping[int, float], ends: Mapping[int, float], written: Mapping[int, float], uncounted: set[int]
) -> tuple[list[Cost], list[float]]:
    """What each checkpoint cost, and the seconds of the steps that none touched.

    A checkpoint taken after step s touches the steps from s + 1 to the one in which the writing ends, and one more.

    Args:
        seconds: of each step, from the end of the one before.
        ends: when each step ended.
        written: step after which each checkpoint was taken -> when it was whole.
        uncounted: steps that something else made longer.

    Raises:
        RuntimeError: a checkpoint was still being written when the next was taken, no step was left alone, or no checkpoint.
    """
    touched: dict[int, list[int]] = {}
    for step, whole in written.items():
        last = next((s for s in sorted(ends) if s > step and ends[s] >= whole), None)
        if last is None or any(step < other <= last + 1 for other in written):
            raise RuntimeError("checkpoints are written more slowly than they are taken: put more steps between them")
        touched[step] = [s for s in range(step + 1, last + 2) if s in seconds]
    near = {s for group in touched.values() for s in group}
    quiet = [took for step, took in seconds.items() if step not in near | uncounted]
    if not quiet:
        raise RuntimeError("no step was free of checkpoints: put more steps between them")
    ordinary = statistics.median(quiet)
    costs = [
        Cost(sum(seconds[s] - ordinary for s in group), seconds[step + 1] - ordinary)
        for step, group in touched.items()
        if not uncounted.intersection(group)
    ]
    if not costs:
        raise RuntimeError("something else fell on every checkpoint: take them after other steps")
    return costs, quiet


def _written(folder: Path, step: int) -> float:
    """When the checkpoint of ``step`` was whole, by its newest file."""
    checkpoint: Path = checkpoint_folder(folder / CHECKPOINTS, step)
    return max(file.stat().st_mtime for file in checkpoint.rglob("*"))


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


BENCHMARK = Benchmark(
    name="checkpoint_overhead",
    unit="of the run",
    goal=0.02,
    higher_is_better=False,
    measures="share of a run that one asynchronous checkpoint per 200 steps adds: what the steps during and after a "
    "checkpoint take longer than those between, all together, over 200 ordinary steps of a 14 M parameter Llama (median of "
    "five checkpoints of one run under Ray Train); the larger of one and two workers on two cores.",
    run=run,
)
