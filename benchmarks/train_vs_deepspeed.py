"""Steady against plain DeepSpeed that torchrun starts."""

from __future__ import annotations

from benchmarks.harness import Benchmark, Measured
from benchmarks.side_by_side import STEPS, compare


def run(steps: int = STEPS) -> Measured:
    """One and two workers."""
    return compare("deepspeed_side", "plain DeepSpeed under torchrun", steps=steps)


BENCHMARK = Benchmark(
    name="train_vs_deepspeed",
    unit="x",
    goal=0.97,
    higher_is_better=True,
    measures="tokens/s of Steady (all of `steady train` under Ray Train but held-out evaluation: feed, watchdog, a record "
    "a step) over a plain DeepSpeed loop under torchrun with the same 14 M parameter Llama, batches from memory, ZeRO stage, "
    "engine settings, fused AdamW and threads, step by step in turn; medians of neighbours' ratios, the smaller of one and "
    "two workers.",
    run=run,
)
