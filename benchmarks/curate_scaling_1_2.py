"""Does a second core help? The same corpus curated on one core and on two, in turn."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from benchmarks.corpora import write_copies, write_tokenizer
from benchmarks.curate_memory_10x import measure
from benchmarks.harness import Benchmark, Measured

_COPIES = 16
_ROUNDS = 3


def run() -> Measured:
    """Seconds of the whole curation, a local Ray session up already, one core over two; the median of the rounds."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sources = write_copies(folder / "corpora", _COPIES)
        tokenizer = write_tokenizer(folder / "tokenizer", [Path(source.paths[0]) for source in sources.values()])
        rounds = [
            {workers: measure(folder / "run", sources, tokenizer, workers) for workers in (1, 2)}
            for _ in range(_ROUNDS)
        ]
    if len({one["digest"] for found in rounds for one in found.values()}) != 1:
        raise RuntimeError("the stores differ")
    ratios = [found[1]["seconds"] / found[2]["seconds"] for found in rounds]
    work = [sum(found[2]["steps"].values()) / (2 * found[2]["seconds"]) for found in rounds]
    details = {
        "seconds": [{str(workers): one["seconds"] for workers, one in found.items()} for found in rounds],
        "steps_of_two_workers": rounds[-1][2]["steps"],
        "share_of_two_workers_time_in_steps": work,
    }
    slow = statistics.median(found[1]["seconds"] for found in rounds)
    return Measured(statistics.median(ratios), {"name": "one core", "value": slow, "unit": "s"}, details)


BENCHMARK = Benchmark(
    name="curate_scaling_1_2",
    unit="x",
    goal=1.7,
    higher_is_better=True,
    measures="seconds of a curation of sixteen times the packaged corpora on one core over those on two (driver, Ray and workers "
    "all bound to them), on a local Ray session that is up already; the stores are the same bytes.",
    run=run,
)
