"""Does memory grow with the corpus? Curate it once and ten times, and compare the peaks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import psutil

from benchmarks.corpora import write_copies, write_tokenizer
from benchmarks.harness import ROOT, Benchmark, Measured
from pipelines.config import SourceConfig

_COPIES = 10
_EVERY_S = 0.1
_WORKERS = 2


def run() -> Measured:
    """The same curation of one and of ten times the corpus, each in a process tree of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sources = write_copies(folder / "corpora", _COPIES)
        first = {name: source.model_copy(update={"paths": source.paths[:1]}) for name, source in sources.items()}
        tokenizer = write_tokenizer(folder / "tokenizer", [Path(source.paths[0]) for source in first.values()])
        small = measure(folder / "small", first, tokenizer, _WORKERS)
        large = measure(folder / "large", sources, tokenizer, _WORKERS)
    details = {"1x": small, "10x": large, "workers": _WORKERS}
    baseline = {"name": "peak of one time the corpus", "value": small["peak_mb"], "unit": "MB"}
    return Measured(large["peak_mb"] / small["peak_mb"], baseline, details)


def measure(folder: Path, sources: dict[str, SourceConfig], tokenizer: Path, workers: int) -> dict[str, Any]:
    """Curate in a new process that, with all its children, may use ``workers`` cores; seconds, and the peak of private
    memory over its driver and workers."""
    settings = {
        "folder": str(folder),
        "sources": {name: source.model_dump(mode="json") for name, source in sources.items()},
        "tokenizer": str(tokenizer),
        "workers": workers,
    }
    command = [sys.executable, "-m", "benchmarks.curate_once", json.dumps(settings)]
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(mine)[:workers]))  # children inherit it
    try:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    finally:
        os.sched_setaffinity(0, mine)
    peaks = {"sum": 0, "largest": 0}
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks, stop))
    watcher.start()
    out, _ = process.communicate()
    stop.set()
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"the curation ended with exit code {process.returncode}")
    result = json.loads(out.strip().splitlines()[-1])
    text = sum(Path(path).stat().st_size for source in sources.values() for path in source.paths)
    return {
        "peak_mb": peaks["sum"] / 1e6,
        "largest_process_mb": peaks["largest"] / 1e6,
        "seconds": result["seconds"],
        "compressed_mb": text / 1e6,
        "steps": result["steps"],
        "digest": result["digest"],
    }


def _watch(pid: int, peaks: dict[str, int], stop: threading.Event) -> None:
    """Private memory (resident less shared, so without the object store and mapped files) of the driver and Ray's workers."""
    root = psutil.Process(pid)
    while not stop.wait(_EVERY_S):
        sizes = []
        try:
            for process in (root, *root.children(recursive=True)):
                if process.pid == pid or process.name().startswith("ray::"):
                    memory = process.memory_info()
                    sizes.append(memory.rss - memory.shared)
        except psutil.Error:  # a process that ended meanwhile
            continue
        if sizes:
            peaks["sum"], peaks["largest"] = max(peaks["sum"], sum(sizes)), max(peaks["largest"], *sizes, 0)


BENCHMARK = Benchmark(
    name="curate_memory_10x",
    unit="x",
    goal=1.3,
    higher_is_better=False,
    measures="peak of the private memory of all processes of a curation on two workers, ten times the packaged corpora (words "
    "changed in every copy) over one time.",
    run=run,
)
