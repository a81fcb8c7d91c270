"""What the numbers of docs/scaling.md rest on: what was measured, what is assumed, what follows from both and the product's own
planning (``plan_runs``, ``memory``, ``deal``). Seconds and bytes unless a name says otherwise."""

from __future__ import annotations

import heapq
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cluster.recipe import load_recipe
from cluster.workflow import Planned, plan_runs
from docs.goodput import Checkpoints
from pipelines.executor import deal
from training.estimate import ASSUMED_UTILISATION
from training.evaluation import evaluation_steps

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes" / "llama-3-8b-medical.yaml"
RESULTS = ROOT / "benchmarks" / "results"

MEASURED = {
    "filtered_mb_s": (
        3.5,
        "MB/s",
        "curation of real text, filters of `literature`, one process (lab notebook, 2026-11-24)",
    ),
    "mlflow_sqlite": (67.6, "batches/s", "`log_batch` of 12 metrics into SQLite, one client, busy machine"),
    "mlflow_http": (6.5, "batches/s", "the same through `mlflow server --workers 1`, 8 clients, two cores at load 7"),
    "poll_s": (0.12, "s of CPU", "512 calls of idle Ray actors by one process, as Ray Train's controller makes them"),
    "tiny_restart_s": (
        54.0,
        "s",
        "longest of 16 restarts of killed tiny runs (10 to 54 s), busy machine (lab notebook)",
    ),
}
"""Numbers that no benchmark file holds: value, unit, what was done."""

ASSUMED = {
    "web_tokens": (600e9, "tokens", "RefinedWeb's public part: 500 to 650 billion by its card"),
    "web_documents": (968_000_015, "documents", "its card"),
    "web_gb": (2766.953721769, "GB", "its card, text"),
    "utilisation": (ASSUMED_UTILISATION["gpu"], "of peak", "as `steady plan` assumes; not measured"),
    "gpu_hours_a_failure": (
        54 * 24 * 16_384 / 419,
        "GPU-hours",
        "Llama 3: 419 failures in 54 days on 16,384 H100 (Dubey et al. 2024)",
    ),
    "spot_node_h": (24.0, "h", "time after which a spot node of 8 GPUs is taken away, on average"),
    "storage_gb_s": (2.0, "GB/s", "what all nodes together write to or read from shared storage"),
    "restart_s": (
        120.0,
        "s",
        "twice the measured restart: NCCL, 512 workers, a large model; reading a checkpoint comes on top",
    ),
    "jitter": (0.01, "of a step", "standard deviation of a node's step time"),
    "gpu_hour": (3.0, "$", "one H100-hour; put your own price"),
    "core_hour": (0.05, "$", "one CPU core-hour with 4 GB"),
    "gb_month": (0.023, "$", "object storage, a GB and month"),
}
"""What the tables rest on and nobody here has measured."""

TOKENS_IN, LENGTH_OF_PATH, ITEM_BYTES, RANGE_DOCUMENTS, SHARD_BYTES = 50e9, 86, 128 << 20, 500_000, 128 << 20
SCALES = (16, 512)
GPUS_A_NODE = 8


def value(name: str) -> float:
    """A measured or assumed number."""
    return float((MEASURED | ASSUMED)[name][0])


@lru_cache
def planned(gpus: int) -> Planned:
    """The published recipe on so many GPUs: at 512 with the smallest batch that they divide."""
    batch = max(1_572_864, gpus * 8192)
    changes = [f"training.workers={gpus}", f"training.global_batch_tokens={batch}"]
    return plan_runs(load_recipe(RECIPE, changes), device="gpu", peak_flops=989e12)[0]


def makespan(text: float, cores: int) -> float:
    """Seconds until the last item is done: the product's own dealing of items to tasks, free workers take the next; an item's
    time scatters by a fifth, fixed seed; 7 s for starts and stages as measured on small corpora."""
    items = int(-(-text // ITEM_BYTES))
    took = text / items / 1e6 / value("filtered_mb_s") * np.random.default_rng(0).lognormal(-0.02, 0.2, items)
    free = [0.0] * cores
    for hand in deal(items, cores):
        heapq.heapreplace(free, free[0] + float(took[hand].sum()))
    return max(free) + 7.0


def driver_bytes(tokens: float, documents: float, text: float) -> float:
    """JSON of the items of the last two stages, which name every run: runs x path x (2 x ranges + shards)."""
    runs, ranges, shards = text / ITEM_BYTES, documents / RANGE_DOCUMENTS, tokens * 4 / SHARD_BYTES
    return runs * LENGTH_OF_PATH * (2 * ranges + shards)


def step_seconds(gpus: int) -> float:
    """One optimiser step by FLOPs and utilisation."""
    estimate = planned(gpus).estimate
    assert estimate.seconds is not None
    return estimate.seconds / estimate.steps


def micro_seconds() -> float:
    """One micro-batch of one GPU, forward and backward."""
    plan = planned(16).plan
    return step_seconds(16) / (plan.batch_sequences / 16)


def feed_rate() -> float:
    """Tokens/s that one process reads from a store that is on disk."""
    return float(benchmark("data_wait")["details"]["feed_alone"]["from_disk_tokens_per_s"])


def evaluation_share(gpus: int) -> float:
    """Forward passes of the held-out windows (a third of a step's work each) over the time in steps."""
    recipe, steps = planned(gpus).recipe, planned(gpus).plan.steps
    sources = sum(source.role != "reference" for source in recipe.sources.values())
    passes = sources * -(-recipe.evaluation.sequences // gpus)
    times = len(evaluation_steps(steps, recipe.evaluation.points))
    return times * passes * micro_seconds() / 3 / (step_seconds(gpus) * steps)


def checkpoint_bytes() -> float:
    """bf16 weights, fp32 copy and two moments: 14 bytes a parameter."""
    return 14.0 * planned(16).estimate.parameters


def checkpoint_costs(gpus: int) -> Checkpoints:
    """One checkpoint of the recipe: the copy at the measured rate of one worker, the file at the slower of the measured rate of
    one worker and the storage."""
    worker = checkpoint_bytes() / gpus
    details = benchmark("checkpoint_overhead")["details"]["workers_1"]
    copy = details["checkpoint_bytes"] / details["held_s"]["median"]
    write = details["checkpoint_bytes"] / details["writing_s"]["median"]
    plan, every = planned(gpus).plan, planned(gpus).recipe.training.checkpoint_tokens
    assert every is not None
    steps = max(1, round(every / (plan.batch_sequences * plan.sequence_length)))
    return Checkpoints(steps, worker / copy, max(worker / write, checkpoint_bytes() / (1e9 * value("storage_gb_s"))))


def benchmark(name: str) -> Any:
    """The result of a benchmark, as its file holds it."""
    return json.loads((RESULTS / f"{name}.json").read_text())
