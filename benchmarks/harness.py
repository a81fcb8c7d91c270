"""What all benchmarks share: the protocol, the description of the machine, robust ratios, the result file."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ground.files import canonical_json, write_atomic

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"

_PACKAGES = ("torch", "deepspeed", "ray", "transformers", "tokenizers", "numpy", "pyarrow", "mlflow")


@dataclass(frozen=True)
class Measured:
    """What one run of a benchmark found."""

    value: float
    baseline: dict[str, Any] | None
    """What the value is held against: ``{"name", "value", "unit"}``; None when there is nothing to compare with."""
    details: dict[str, Any]
    """Everything needed to judge the value: parts, settings, spread."""


@dataclass(frozen=True)
class Benchmark:
    """One benchmark. Each lives in ``benchmarks/<name>.py`` as ``BENCHMARK``."""

    name: str
    unit: str
    goal: float | None
    """None: watched, without a promise."""
    higher_is_better: bool
    measures: str
    """One sentence: what is measured and how."""
    run: Callable[[], Measured]


def result(benchmark: Benchmark, measured: Measured, *, load: float) -> dict[str, Any]:
    """The content of ``results/<name>.json``.

    Args:
        load: load average of the machine before the benchmark began, so that a reader can tell a disturbed run.
    """
    return {
        "name": benchmark.name,
        "value": measured.value,
        "unit": benchmark.unit,
        "goal": benchmark.goal,
        "higher_is_better": benchmark.higher_is_better,
        "baseline": measured.baseline,
        "details": {"measures": benchmark.measures, **measured.details},
        "machine": machine() | {"load_before": round(load, 2)},
        "versions": versions(),
        "commit": commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def write_result(content: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write a result file."""
    path = folder / f"{content['name']}.json"
    write_atomic(path, canonical_json(content))
    return path


def read_results(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """All results on disk, by name."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def machine() -> dict[str, Any]:
    """Processor, cores and memory; no names that identify the machine."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(gigabytes),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Python and those of the packages that decide the speed that are there."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def commit() -> str | None:
    """The commit measured, with ``+`` when tracked files outside ``benchmarks/`` differ from it; None outside git."""
    head = _git("rev-parse", "--short=12", "HEAD")
    if head is None:
        return None
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks")
    return head + ("+" if changed else "")


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Speed of ours over theirs from times of interleaved repetitions: median and quartiles of the pairwise ratios.

    Neighbours share whatever else the machine was doing, so that their ratio is far steadier than either time.
    """
    ratios = [other / own for own, other in zip(ours, theirs, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    return {"median": median, "lower_quartile": low, "upper_quartile": high}


def spread(times: Sequence[float]) -> dict[str, float]:
    """Median, fastest and slowest of repeated times."""
    return {"median": statistics.median(times), "min": min(times), "max": max(times)}


def rounded(value: Any, digits: int = 4) -> Any:
    """The value with every float in it rounded to so many significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: rounded(part, digits) for key, part in value.items()}
    return [rounded(part, digits) for part in value] if isinstance(value, (list, tuple)) else value


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
