"""What a trial of one process costs beyond its training: from the last record of one trial to the first of the next."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from benchmarks.harness import ROOT, Benchmark, Measured
from tuning.trial import read_trial_records

_TRIALS = 10
_GOAL = 3.0


def run() -> Measured:
    """A search of ten trials, one after the other, each trained to its end."""
    with tempfile.TemporaryDirectory() as folder:
        run_tokens = 20 * 512
        command = [
            sys.executable,
            "-m",
            "cluster",
            "tune",
            "recipes/search.yaml",
            f"work={folder}",
            "tuning.max_concurrent=1",
            "tuning.rungs=[1.0]",
            f"tuning.run_budget.value={run_tokens}",
            f"tuning.budget.value={_TRIALS * run_tokens}",
        ]
        subprocess.run(command, cwd=ROOT, check=True)
        gaps, trained = between(Path(folder) / "search")
    details = {
        "seconds_between_trials": gaps,
        "seconds_of_training": trained,
        "of_it_evaluating_the_base": "included in what is between",
        "trials": _TRIALS,
        "model": "models/tiny-base, 3.15 M parameters",
        "first_trial": "left out: its process starts and loads its libraries (about 10 s)",
    }
    return Measured(statistics.median(gaps), None, details)


def between(search: Path) -> tuple[list[float], list[float]]:
    """Seconds from trial to trial, and of each trial from its first record to its last."""
    spans = []
    for folder in sorted(search.glob("trial-*")):
        times = [record["time_ms"] / 1000 for record in read_trial_records(folder)]
        spans.append((times[0], times[-1]))
    spans.sort()
    gaps = [later[0] - earlier[1] for earlier, later in pairwise(spans)]
    return gaps, [end - begin for begin, end in spans]


BENCHMARK = Benchmark(
    name="trial_overhead_seconds",
    unit="s",
    goal=_GOAL,
    higher_is_better=False,
    measures="seconds between the last record of a trial and the first of the next, median of nine: export of the model, the "
    "decision, Ray Tune, loading the model, DeepSpeed, the evaluation of the base.",
    run=run,
)
