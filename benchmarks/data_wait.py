"""How long training waits for its data.

The run reports it itself: ``train/data_wait``, the share of a step in which rank 0 stood waiting for its next batch. The
store's files are dropped from the system's memory first, so that they are read from the disk.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Benchmark, Measured, spread
from benchmarks.training_sample import BATCH_TOKENS, sample_job, sample_store, settings
from pipelines.store import TokenStore
from training.feed import Feed
from training.job import Job, Record

_WORLDS = (1, 2)
_STEPS = 24
_STORE_TOKENS = 40_000_000
_FEED_STEPS = 2000


def run(steps: int = _STEPS) -> Measured:
    """One and two workers; the value is the larger share of all steps but the first.

    Args:
        steps: of each run.
    """
    from cluster.session import session
    from training.launch import launch

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch, session():
        store = sample_store(Path(scratch) / "store", _STORE_TOKENS)
        for world in _WORLDS:
            job = sample_job(store, Path(scratch) / f"run-{world}", steps=steps, world=world)
            _forget(store.path)
            records: list[Record] = []
            launch(job, records.append, use_gpu=False)
            found[f"workers_{world}"] = waiting([r["metrics"] for r in records if "train/data_wait" in r["metrics"]])
        feed = _feed_rate(store, Path(scratch))
        described = settings(job)
    value = max(part["share"] for part in found.values())
    return Measured(value, None, found | described | {"feed_alone": feed, "store_tokens": 2 * _STORE_TOKENS})


def waiting(metrics: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Share of the time of all steps but the first that was waited, from the records of each step.

    The first batch of a run cannot be read ahead; its share is told apart.
    """
    seconds = [BATCH_TOKENS / one["train/tokens_per_second"] for one in metrics]
    waited = [one["train/data_wait"] * took for one, took in zip(metrics, seconds, strict=True)]
    return {
        "share": sum(waited[1:]) / sum(seconds[1:]),
        "largest_wait_ms": 1000 * max(waited[1:]),
        "median_wait_ms": 1000 * statistics.median(waited[1:]),
        "first_wait_ms": 1000 * waited[0],
        "step_s": spread(seconds[1:]),
    }


def _feed_rate(store: TokenStore, folder: Path) -> dict[str, float]:
    """Tokens/s that the feed gives when nothing is trained: from the disk, and again from memory."""
    job: Job = sample_job(store, folder, steps=_FEED_STEPS, world=1)
    plan = job.build_plan(store)
    feed = Feed(store, plan, rank=0, world=1, micro_batch=job.training.micro_batch)
    rates = {}
    _forget(store.path)
    for source in ("from_disk", "from_memory"):
        started = time.perf_counter()
        rows = sum(len(rows) for step in range(plan.steps) for rows in feed.micro_batches(step))
        rates[f"{source}_tokens_per_s"] = rows * plan.sequence_length / (time.perf_counter() - started)
    return rates


def _forget(folder: Path) -> None:
    """Drop a folder's files from the system's memory."""
    for file in filter(Path.is_file, folder.rglob("*")):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # only what is on disk can be dropped
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


BENCHMARK = Benchmark(
    name="data_wait",
    unit="of the step",
    goal=0.01,
    higher_is_better=False,
    measures="share of a step in which training waits for its next batch, as the run reports it (train/data_wait), for a "
    "14 M parameter Llama under Ray Train on a store that is not in memory at the start; all steps but the first, the larger "
    "of one and two workers on two cores. The feed's own speed is in the details.",
    run=run,
)
