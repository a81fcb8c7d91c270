"""``python -m benchmarks [NAME ...]``: run benchmarks, write their results, refresh the table in README.md."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys

from benchmarks.harness import Benchmark, Measured, read_results, result, rounded, write_result
from benchmarks.table import met, refresh

NAMES = (
    "train_vs_plain",
    "train_vs_deepspeed",
    "train_vs_hf_trainer",
    "checkpoint_overhead",
    "data_wait",
    "plan_trillion_ms",
    "search_analytic_budget_share",
    "search_real_budget_share",
    "trial_overhead_seconds",
    "curate_throughput",
    "curate_vs_datatrove",
    "curate_scaling_1_2",
    "curate_memory_10x",
    "selection",
    "first_step_seconds",
)

GPU_NAMES = ("gpu",)
"""Those that need a GPU."""


def main(names: list[str]) -> int:
    """Run the named benchmarks (none named: all that this machine can), each in a process of its own. Returns the exit code."""
    known = (*NAMES, *GPU_NAMES)
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no benchmark {unknown[0]!r}; use {', '.join(known)}", file=sys.stderr)
        return 2
    if len(names) == 1:
        run(importlib.import_module(f"benchmarks.{names[0]}").BENCHMARK)
        return 0
    possible = known if shutil.which("nvidia-smi") else NAMES
    # One benchmark must not find the libraries, threads and memory of another.
    command = [sys.executable, "-m", "benchmarks"]
    codes = [subprocess.run([*command, name], check=False).returncode for name in names or possible]
    return max(codes, key=abs)


def run(benchmark: Benchmark) -> None:
    """Run one benchmark in this process."""
    load = os.getloadavg()[0]
    print(f"{benchmark.name}: {benchmark.measures}", flush=True)
    if load > 0.5:
        print(f"  the machine is busy (load {load:.1f}): times will be too long, ratios less certain", flush=True)
    measured = benchmark.run()
    measured = Measured(rounded(measured.value), rounded(measured.baseline), rounded(measured.details))
    content = result(benchmark, measured, load=load)
    path = write_result(content)
    refresh(read_results())
    print(f"  {measured.value:g} {benchmark.unit} (goal {benchmark.goal}, met: {met(content)}); details in {path.name}")


if __name__ == "__main__":
    # Before any library that reads it is loaded; two spinning OpenMP threads would starve each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main(sys.argv[1:]))
