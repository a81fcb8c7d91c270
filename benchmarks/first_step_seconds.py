"""How long a user waits for the first optimiser step, and for what.

The command runs with ``trace/`` on its PYTHONPATH, so that its processes note a few times; the end is the time that the
worker itself writes into the record of step 1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.harness import ROOT, Benchmark, Measured
from benchmarks.sample import random_store

_NAME, _VOCABULARY, _HELD_OUT = "first-step", 4096, 2048
_TIMEOUT_S = 300
_REPETITIONS = 2
_RECIPE = {
    "name": _NAME,
    "sources": {name: {"role": name, "paths": ["not-read.jsonl"]} for name in ("domain", "general")},
    "model": {
        "init": "random",
        "architecture": {"hidden_size": 128, "layers": 4, "heads": 4, "intermediate_size": 384},
    },
    "mixture": {"subset_tokens": 8192, "shares": {"domain": 0.8, "general": 0.2}},
    "training": {
        "sequence_length": 256,
        "global_batch_tokens": 2048,
        "micro_batch": 8,
        "workers": 1,
        "accelerator": "cpu",
    },
    "evaluation": {"points": 1, "sequences": 4},
}


@dataclass(frozen=True)
class _Event:
    seconds: float
    """Since the command."""
    process: int
    what: str


def run() -> Measured:
    """The mean of two runs: the first may also read a gigabyte of libraries from disk."""
    runs = [_one_run() for _ in range(_REPETITIONS)]
    phases = min(runs, key=lambda run: sum(run.values()))
    totals = [sum(run.values()) for run in runs]
    details = {"phases_of_the_faster_s": phases, "all_runs_s": totals, "recipe": _RECIPE}
    return Measured(sum(totals) / len(totals), None, details)


def _one_run() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tokens = {"domain": ("domain", 40_000), "general": ("general", 40_000)}
        random_store(folder / "store", tokens, vocabulary=_VOCABULARY, heldout=_HELD_OUT)  # type: ignore[arg-type]
        recipe = folder / "recipe.yaml"
        placed = {"work": str(folder / "work"), "curation": {"store": str(folder / "store")}}
        recipe.write_text(yaml.safe_dump(_RECIPE | placed))
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks" / "trace")]),
            "STEADY_BENCHMARK_TRACE": str(folder / "trace"),
        }
        environment.pop("RAY_ADDRESS", None)
        command = [sys.executable, "-m", "cluster", "train", str(recipe)]
        started = time.time()
        with subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            output, _ = process.communicate(timeout=_TIMEOUT_S)
        if process.returncode:
            raise RuntimeError(f"steady train ended with {process.returncode}:\n{output[-2000:]}")
        return _phases(
            _events(folder / "trace", started), _records(folder / "work" / "runs" / _NAME, started), process.pid
        )


def _events(trace: Path, started: float) -> list[_Event]:
    lines = [line.split(" ", 2) for line in trace.read_text().splitlines()]
    return sorted(
        (_Event(float(at) - started, int(process), what) for at, process, what in lines), key=lambda e: e.seconds
    )


def _records(folder: Path, started: float) -> dict[int, float]:
    """Step -> seconds since the command, for the base's held-out losses (0) and the first step (1)."""
    lines = (folder / "spool.jsonl").read_text().splitlines()
    records = [record for record in map(json.loads, lines) if "metrics" in record]
    wanted = {0: "heldout/", 1: "train/loss"}
    return {
        step: min(
            r["time_ms"] / 1000 - started
            for r in records
            if r.get("step") == step and any(name.startswith(prefix) for name in r["metrics"])
        )
        for step, prefix in wanted.items()
    }


def _phases(events: list[_Event], records: dict[int, float], driver: int) -> dict[str, float]:
    """Cut the time from the command to the first step at what the processes noted; the parts add up to the whole."""
    worker = next(e.process for e in events if e.what == "import training.loop" and e.process != driver)

    def at(process: int, what: str) -> float:
        return next(e.seconds for e in events if e.process == process and e.what == what)

    cuts = {
        "command, recipe, plan (imports torch)": at(driver, "ray.init"),
        "ray.init, tracking": at(driver, "import training.launch"),
        "import ray.train, controller, worker process": at(worker, "import training.loop"),
        "worker: import the loop, store, model (imports torch, transformers)": at(worker, "import deepspeed"),
        "worker: import deepspeed, engine, held-out losses of the base": records[0],
        "first step": records[1],
    }
    edges = [0.0, *cuts.values()]
    return {name: end - begin for name, begin, end in zip(cuts, edges, edges[1:], strict=False)}


BENCHMARK = Benchmark(
    name="first_step_seconds",
    unit="s",
    goal=30,
    higher_is_better=False,
    measures="seconds from the command `steady train` to the end of the first optimiser step of one worker on a "
    "machine without a running Ray (recipe, plan, MLflow on SQLite, ray.init, Ray Train, DeepSpeed, held-out losses of the "
    "base); the mean of two runs, parts (of the faster) in the details.",
    run=run,
)
