"""A plan over a trillion tokens: how long to build it, how long to look into it."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.harness import Benchmark, Measured, spread
from pipelines.config import MixtureConfig
from pipelines.plan import Plan, SourceSize

_SHARES = {
    "domain": 0.82,
    "general-1": 0.045,
    "general-2": 0.045,
    "general-3": 0.045,
    "general-4": 0.025,
    "general-5": 0.02,
}
_SUBSET, _EPOCHS = 250_000_000_000, 4
_LENGTH, _BATCH, _STEPS, _REPETITIONS = 2048, 512, 1000, 7


def run() -> Measured:
    """Build and look up, repeatedly; medians."""
    sizes = {name: SourceSize("domain" if name == "domain" else "general", _SUBSET) for name in _SHARES}
    mixture = MixtureConfig(subset_tokens=_SUBSET, epochs=_EPOCHS, shares=_SHARES)
    build, together, singly = [], [], []
    for seed in range(_REPETITIONS):  # a new seed finds no permutation in the cache
        started = time.perf_counter()
        plan = Plan(sizes, mixture, sequence_length=_LENGTH, batch_sequences=_BATCH, seed=seed)
        build.append(1000 * (time.perf_counter() - started))

        steps = np.random.default_rng(0).integers(0, plan.steps, _STEPS)
        started = time.perf_counter()
        batches = plan.batches(steps)
        together.append(1000 * (time.perf_counter() - started))

        started = time.perf_counter()
        single = [plan.batch(step).sequence for step in steps.tolist()]
        singly.append(1000 * (time.perf_counter() - started))
        assert (np.stack(single) == batches.sequence).all()
    built, looked_up = spread(build), spread(together)
    details = {
        "build_ms": built,
        "lookup_1000_steps_ms": looked_up,
        "goals": {"build_ms": 100, "lookup_1000_steps_ms": 100},
        "separate_batch_calls_1000_ms": spread(singly),
        "tokens": plan.total_tokens,
        "steps": plan.steps,
        "batch_sequences": _BATCH,
        "sequence_length": _LENGTH,
        "shares": _SHARES,
        "epochs": _EPOCHS,
        "repetitions": _REPETITIONS,
    }
    return Measured(built["median"] + looked_up["median"], None, details)


BENCHMARK = Benchmark(
    name="plan_trillion_ms",
    unit="ms",
    goal=200,
    higher_is_better=False,
    measures="building a plan over 10^12 tokens (the published shares, four epochs) plus looking up its global batches "
    "of 512 sequences at 1,000 random steps; medians of seven repetitions, one thread.",
    run=run,
)
