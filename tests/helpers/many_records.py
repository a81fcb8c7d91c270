"""Some jobs of many: each records so many steps of so many metrics; prints how long the calls took, in microseconds."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from tracking.runs import Tracker


def record_all(tracker: Tracker, folder: Path, steps: int, metrics: int, said: list[dict[str, float]]) -> None:
    """Record one run, as a training loop would, and send everything."""
    took = []
    log = tracker.run(folder.name, folder, params={"name": folder.name})
    for step in range(steps):
        record = {
            "step": step,
            "tokens": step * 4096,
            "time_ms": 1_700_000_000_000 + step,
            "metrics": {f"group{i % 5}/metric{i}": step + i / 100 for i in range(metrics)},
        }
        start = time.perf_counter()
        log.log(record)
        took.append(time.perf_counter() - start)
        time.sleep(0.02)  # a step
    left = log.finish(timeout_s=400)
    took.sort()
    said.append({"left": left, "p50": took[len(took) // 2] * 1e6, "p95": took[int(len(took) * 0.95)] * 1e6})


def main(uri: str, folders: list[Path], steps: int, metrics: int) -> None:
    """All jobs of this process at once."""
    tracker = Tracker.open(uri, "many jobs", or_later=True)
    said: list[dict[str, float]] = []
    threads = [threading.Thread(target=record_all, args=(tracker, f, steps, metrics, said)) for f in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1], [Path(folder) for folder in sys.argv[4:]], int(sys.argv[2]), int(sys.argv[3]))
