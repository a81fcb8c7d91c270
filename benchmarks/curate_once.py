"""One curation in a process of its own, for benchmarks that watch it: ``python -m benchmarks.curate_once JSON``."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

from cluster.session import session
from pipelines.config import CurationConfig, SourceConfig
from pipelines.curate import Curation
from pipelines.ray_executor import RayExecutor
from pipelines.work import Work


def main() -> None:
    """Curate as the argument says (sources, tokenizer, folder, workers); print seconds by stage and the digest as JSON."""
    settings = json.loads(sys.argv[1])
    folder = Path(settings["folder"])
    shutil.rmtree(folder, ignore_errors=True)
    sources = {name: SourceConfig.model_validate(value) for name, value in settings["sources"].items()}
    stages: list[tuple[str, str]] = []
    with session(cpus=settings["workers"] + 2):
        work = Work(folder / "work", RayExecutor(settings["workers"]), lambda stage, text: stages.append((stage, text)))
        started = time.perf_counter()
        store = Curation(folder / "store", sources, CurationConfig(), settings["tokenizer"], work).run()
        seconds = time.perf_counter() - started
    results = [
        json.loads(p.read_text()) for s in ("prepare", "tokens") for p in (folder / "work" / s).glob("*/result.json")
    ]
    steps: dict[str, float] = {}
    for result in results:
        for step, amount in result["seconds"].items():
            steps[step] = steps.get(step, 0.0) + amount
    print(json.dumps({"seconds": seconds, "steps": steps, "stages": stages, "digest": store.digest}))


if __name__ == "__main__":
    main()
