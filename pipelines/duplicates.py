"""Deduplication as a stage: its phases in the work folder, run by the executor, done items kept."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ground.files import canonical_json, write_atomic
from pipelines.dedup import VERSION, DedupConfig, Found, Outcome, SignedPart, choose_members, find_duplicates
from pipelines.dedup.layout import TASK_ROWS, Task
from pipelines.executor import Executor, Item, LocalExecutor, Result
from pipelines.parts import Part
from pipelines.work import Work, content_key, writing

# Below it threads of this process take less time than handing a dozen phases to workers (5 s).
_FEW_DOCUMENTS = 2_000_000
_FEW_ROWS = 1 << 18  # rows of a task then: smaller ones keep every thread at work, and cost more files


@dataclass(frozen=True)
class Duplicates:
    """Duplicates that were found, before it is known which of them are best."""

    folder: Path
    found: Found
    run: PhaseRunner


def find(work: Work, config: DedupConfig | None, order: Sequence[str], parts: Sequence[Part]) -> Duplicates | None:
    """Find exact and near copies in all parts, or None without deduplication.

    Args:
        order: names of the sources in the order of declaration.

    Raises:
        UserError: ``config.priorities`` names an unknown source.
    """
    if config is None:
        return None
    config.ranks(order)
    signed = [SignedPart(str(part.folder), part.documents, part.source) for part in parts]
    few = runs_here(parts)
    task_rows = _FEW_ROWS if few else TASK_ROWS
    key = content_key(
        version=VERSION,
        config=config.model_dump(mode="json"),
        order=list(order),
        parts=[[part.source, part.key] for part in parts],
        task_rows=task_rows,
    )
    folder = work.folder / "duplicates" / key
    runner = PhaseRunner(folder / "results", LocalExecutor(len(os.sched_getaffinity(0))) if few else work.executor)
    with work.timed("duplicates") as say:
        found = find_duplicates(signed, order, config, folder, runner, task_rows)
        say(f"{found.documents:,} documents compared")
    return Duplicates(folder, found, runner)


def runs_here(parts: Sequence[Part]) -> bool:
    """Whether so few documents are compared by threads of this process, not by the executor's workers."""
    return sum(part.documents for part in parts) < _FEW_DOCUMENTS


def settle(duplicates: Duplicates, scores: Sequence[Path | None], key: str) -> Outcome:
    """Choose the copy that stays.

    Args:
        scores: for each part the file of its documents' scores, lower is better; None: all equal.
        key: digest of what determines the scores, so that other scores are another choice.
    """
    runner = PhaseRunner(duplicates.folder / f"results-{key}", duplicates.run.executor)
    files = [None if path is None else str(path) for path in scores]
    return choose_members(duplicates.folder, duplicates.found, files, runner, choice=f"choice-{key}")


class PhaseRunner:
    """Runs the items of a phase and keeps their results, so that a second run does only what is missing.

    Args:
        folder: where results are kept.
    """

    def __init__(self, folder: Path, executor: Executor) -> None:
        self.folder, self.executor = folder, executor

    def __call__(self, phase: str, task: Task, items: Sequence[Item]) -> list[Result]:
        """Results in the order of the items."""
        function = f"{task.__module__}:{task.__qualname__}"
        files = [self.folder / phase / f"{index:06d}.json" for index in range(len(items))]
        missing = [
            {"function": function, "item": item, "result": str(file)}
            for item, file in zip(items, files, strict=True)
            if not file.is_file()
        ]
        executor = self.executor if len(missing) > 1 else LocalExecutor()
        for _ in executor.map(run_phase_item, missing):
            pass
        return [json.loads(file.read_text()) for file in files]


def run_phase_item(item: Item) -> Result:
    """Run one item of a phase and keep its result, which is written last."""
    module, name = item["function"].split(":")
    with writing("curation.work", Path(item["result"]).parent):
        result = getattr(importlib.import_module(module), name)(item["item"])
        write_atomic(Path(item["result"]), canonical_json(result))
    return {}
