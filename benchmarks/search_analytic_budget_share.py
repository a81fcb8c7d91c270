"""How much of a 5 x 5 x 5 grid's budget the search needs on landscapes whose optimum is known."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Benchmark, Measured, rounded
from tuning.baselines import BASELINES, grid
from tuning.landscapes import LANDSCAPES, Landscape, landscape_space
from tuning.simulate import Optimum, Searcher, optimum, regrets, search, settled_within
from tuning.space import Space

Floats = NDArray[np.float64]

_SEEDS = range(2000, 2050)
"""None of them was looked at while the search was built (0 to 9, and on two landscapes 1000 to 1019, were)."""
_GOAL = 0.35
_TOLERATED = 0.01
_GRID = 5


def run() -> Measured:
    """All landscapes and methods."""
    return measure(LANDSCAPES, _SEEDS)


def measure(landscapes: Sequence[Landscape], seeds: Sequence[int]) -> Measured:
    """The benchmark for chosen landscapes and seeds."""
    space = landscape_space()
    parts = {}
    for landscape in landscapes:
        parts[landscape.name] = _compare(space, landscape, seeds)
        print(landscape.name, rounded(parts[landscape.name]["search"]), flush=True)
    worst = max(part["search"]["share_at_80_percent_of_seeds"] for part in parts.values())
    others = {
        name: max(part[name]["share_at_80_percent_of_seeds"] for part in parts.values())
        for name in ("random", "asha", "tpe")
    }
    nearest = min(others, key=others.__getitem__)
    details = {
        "landscapes": rounded(parts),
        "seeds": len(seeds),
        "grid_runs": _GRID**space.dims,
        "budget_of_every_method": _GOAL,
        "within": _TOLERATED,
        "unreached": "a share of 1 stands for: not within the budget given",
        "landscapes_where_80_percent_of_seeds_succeed": sum(p["search"]["success"] >= 0.8 for p in parts.values()),
        "concurrent": 4,
    }
    return Measured(
        worst, {"name": f"best of the others: {nearest}", "value": others[nearest], "unit": "share"}, details
    )


def _compare(space: Space, landscape: Landscape, seeds: Sequence[int]) -> dict[str, Any]:
    best = optimum(space, landscape)
    part: dict[str, Any] = {
        "what": landscape.text,
        "best_share": best.point.share,
        "best_epochs": best.point.epochs,
        "best_value": best.value,
        "range_over_best": best.worst / best.value - 1,
        "noise": landscape.noise,
        "search": _judge(space, landscape, best, search, seeds, _GOAL),
    }
    for name, method in BASELINES.items():
        part[name] = _judge(space, landscape, best, method, seeds, _GOAL)
    part["grid"] = _judge(space, landscape, best, grid, seeds, 1.0)
    return part


def _judge(
    space: Space, landscape: Landscape, best: Optimum, method: Searcher, seeds: Sequence[int], share: float
) -> dict[str, Any]:
    whole = _GRID**space.dims * space.limits.run_tokens
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        ended = list(pool.map(partial(_search_once, space, landscape, best, method, share * whole), seeds))
    reached = [min(1.0, settled_within(path, _TOLERATED) / whole) for path, _ in ended]
    spent = [path[-1][0] / whole for path, _ in ended]
    at_end = np.array([path[-1][1] for path, _ in ended])
    successes = int(np.sum(at_end <= _TOLERATED))
    return {
        "success": successes / len(seeds),
        "success_interval_95": wilson(successes, len(seeds)),
        "share_at_half_of_seeds": _upper_quantile(np.array(reached), 0.5),
        "share_at_80_percent_of_seeds": _upper_quantile(np.array(reached), 0.8),
        "share_at_80_percent_interval_95": _quantile_interval(np.array(reached), 0.8),
        "median_regret": float(np.median(at_end)),
        "median_regret_of_range": float(np.median(at_end)) / (best.worst / best.value - 1),
        "mean_spent": float(np.mean(spent)),
        "cpu_seconds_each": sum(seconds for _, seconds in ended) / len(seeds),
    }


def _search_once(
    space: Space, landscape: Landscape, best: Optimum, method: Searcher, budget: float, seed: int
) -> tuple[list[tuple[float, float]], float]:
    """One search's regret along its tokens, and its processor seconds."""
    started = time.process_time()
    path = regrets(space, landscape, best, method(space, landscape, budget, seed))
    return path, time.process_time() - started


def wilson(successes: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    share, square = successes / count, z * z / count
    centre = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return centre - half, centre + half


def _upper_quantile(values: Floats, part: float) -> float:
    """The smallest value that at least this part of the seeds does not exceed."""
    return float(np.quantile(values, part, method="inverted_cdf"))


def _quantile_interval(values: Floats, part: float) -> tuple[float, float]:
    """95 % bootstrap interval of the quantile."""
    rng = np.random.default_rng(0)
    quantiles = [_upper_quantile(rng.choice(values, len(values)), part) for _ in range(1000)]
    return float(np.quantile(quantiles, 0.025)), float(np.quantile(quantiles, 0.975))


BENCHMARK = Benchmark(
    name="search_analytic_budget_share",
    unit="share",
    goal=_GOAL,
    higher_is_better=False,
    measures="share of a 5 x 5 x 5 grid's tokens after which the recipe that the search would hand over is within 1 % of the "
    "optimum and stays there, for 80 % of 50 seeds; the worst of six analytic landscapes. True values, noise only in what "
    "the search sees.",
    run=run,
)
