"""Curation as a whole, through Ray and in one process, and every step of it by itself."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.corpora import texts_of, write_copies, write_tokenizer
from benchmarks.curate_memory_10x import measure
from benchmarks.harness import Benchmark, Measured
from pipelines.config import CurationConfig, SourceConfig
from pipelines.curate import Curation
from pipelines.executor import LocalExecutor
from pipelines.work import Work

_COPIES = 3


def run() -> Measured:
    """Through Ray on every core, then the same items one after the other in this process."""
    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sources = write_copies(folder / "corpora", _COPIES)
        files = [Path(path) for source in sources.values() for path in source.paths]
        tokenizer = write_tokenizer(folder / "tokenizer", files[::_COPIES])
        sizes = [len(text.encode()) for file in files for _, text in texts_of(file)]
        whole = measure(folder / "ray", sources, tokenizer, workers)
        alone = _in_one_process(folder / "local", sources, tokenizer)
    if alone["digest"] != whole["digest"]:
        raise RuntimeError("the stores differ")
    megabytes = sum(sizes) / 1e6
    busy = sum(whole["steps"].values())
    details = {
        "mb_of_text": megabytes,
        "documents": len(sizes),
        "workers": workers,
        "seconds": whole["seconds"],
        "documents_per_s": len(sizes) / whole["seconds"],
        "steps_mb_per_s_per_core": {step: megabytes / seconds for step, seconds in whole["steps"].items() if seconds},
        "steps_seconds": whole["steps"],
        "share_of_core_seconds_outside_the_steps": 1 - busy / (workers * whole["seconds"]),
    }
    baseline = {"name": "the same items in one process", "value": megabytes / alone["seconds"], "unit": "MB/s"}
    return Measured(megabytes / whole["seconds"], baseline, details)


def _in_one_process(folder: Path, sources: dict[str, SourceConfig], tokenizer: Path) -> dict[str, Any]:
    work = Work(folder / "work", LocalExecutor(), lambda *_: None)
    started = time.perf_counter()
    store = Curation(folder / "store", sources, CurationConfig(), str(tokenizer), work).run()
    return {"seconds": time.perf_counter() - started, "digest": store.digest}


BENCHMARK = Benchmark(
    name="curate_throughput",
    unit="MB/s",
    goal=None,
    higher_is_better=True,
    measures="text through the whole curation (read, repair, filter, deduplicate, train the quality model, tokenise and score, "
    "rank, write) of three times the packaged corpora on all cores, on a local Ray session that is up already.",
    run=run,
)
