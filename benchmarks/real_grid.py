"""The full grid behind ``search_real_budget_share``: 5 epochs x 5 shares x 3 rates of recipes/search.yaml, trained to the end.

    python -m benchmarks.real_grid [PROCESSES]      # about half an hour on two cores; goes on where it stopped

Writes ``benchmarks/data/real_grid.json``: for every point its curve of both metrics at the search's own rungs. Needs the
store of `steady curate recipes/search.yaml`.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from cluster.recipe import load_recipe
from cluster.tune_setup import Setup, set_up
from ground.files import write_atomic
from tuning.history import Job
from tuning.space import Point, Space
from tuning.trial import read_trial_records, reports_of, trial_job, trial_name

RECIPE = "recipes/search.yaml"
TABLE = Path(__file__).parent / "data" / "real_grid.json"
STORE = "curation.store=.steady/search/store"
"""Where the recipe's own work folder has it; the searches measured here have others."""
TICKS = (5, 5, 3)
"""Epochs, shares, learning rates; evenly in the space's own coordinates."""


def grid_points(space: Space) -> list[Point]:
    """The grid's points, in order."""
    ticks = [np.linspace(0, 1, n) for n in TICKS]
    return [space.point(np.array(u)) for u in itertools.product(*ticks)]


def grid_setup() -> Setup:
    """The search of the recipe, with a folder of its own for the grid."""
    return set_up(load_recipe(RECIPE, ["work=.steady/real-grid", STORE]), gpus=0, gpu_memory=None)


def grid_jobs(setup: Setup) -> list[Job]:
    """One job for each point: the whole run."""
    return [
        Job(i, i, point, setup.config.seed * 1_000_003 + i, 0, point.tokens, "grid")
        for i, point in enumerate(grid_points(setup.space))
    ]


def run_part(part: int, parts: int) -> None:
    """Every ``parts``-th point that is not done yet, in this process."""
    import torch

    from tuning.trial import run_here

    torch.set_num_threads(1)
    setup = grid_setup()
    for job in grid_jobs(setup)[part::parts]:
        folder = setup.folder / trial_name(job.trial)
        if not (folder / "model").is_dir():
            made = trial_job(setup.template, setup.blend, job.trial, job.point, job.seed)
            ended = run_here(made, job.end, torch.device("cpu"))
            print(f"{trial_name(job.trial)} {ended.state} {ended.seconds:.0f} s", flush=True)


def table(setup: Setup) -> dict[str, object]:
    """What the grid found, as plain values."""
    rows = []
    for job in grid_jobs(setup):
        records = read_trial_records(setup.folder / trial_name(job.trial))
        reports = reports_of(records, job, setup.blend, setup.config.objective, failed=False)
        rows.append(
            {
                "point": dict(vars(job.point)),
                "seed": job.seed,
                "reports": [{"tokens": r.tokens, **{k: round(v, 5) for k, v in r.metrics.items()}} for r in reports],
            }
        )
    first = read_trial_records(setup.folder / trial_name(0))[0]
    return {
        "recipe": RECIPE,
        "store": setup.store.digest,
        "base": setup.blend.metrics(first["metrics"], setup.config.objective),
        "ticks": TICKS,
        "run_tokens": setup.budgets.run,
        "rows": rows,
    }


def main() -> None:
    """Run what is missing in several processes, then write the table."""
    if len(sys.argv) == 3:
        run_part(int(sys.argv[1]), int(sys.argv[2]))
        return
    parts = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "benchmarks.real_grid"]
    running = [subprocess.Popen([*command, str(i), str(parts)], env=environment) for i in range(parts)]
    codes = [process.wait() for process in running]
    if any(codes):
        sys.exit("a part of the grid failed; the same command goes on")
    write_atomic(TABLE, json.dumps(table(grid_setup()), indent=1) + "\n")


if __name__ == "__main__":
    main()
