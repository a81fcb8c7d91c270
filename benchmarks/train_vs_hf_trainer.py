"""Steady against the Hugging Face Trainer that torchrun starts."""

from __future__ import annotations

from benchmarks.harness import Benchmark, Measured
from benchmarks.side_by_side import STEPS, compare

_STAGE = 0
"""Every worker keeps everything, as under the Trainer's DDP. ZeRO 1 shards the optimizer states and sends twice as much."""


def run(steps: int = STEPS) -> Measured:
    """One and two workers."""
    return compare("hf_trainer_side", "Hugging Face Trainer under torchrun", steps=steps, stage=_STAGE)


BENCHMARK = Benchmark(
    name="train_vs_hf_trainer",
    unit="x",
    goal=1.0,
    higher_is_better=True,
    measures="tokens/s of Steady (all of `steady train` under Ray Train but held-out evaluation: feed, watchdog, a record "
    "a step) over the Hugging Face Trainer under torchrun with the same 14 M parameter Llama, batches, fused AdamW, clipping "
    "and threads, its other settings at their defaults and no checkpoints, "
    "both with all states on every worker (ZeRO 0, DDP), step by step in turn; medians of neighbours' "
    "ratios, the smaller of one and two workers.",
    run=run,
)
