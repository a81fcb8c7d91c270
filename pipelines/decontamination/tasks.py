"""The evaluation sets of a configuration as items of texts, from files or from lm-eval."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from ground.errors import UserError
from pipelines.decontamination.config import FIELDS, DecontaminationConfig, TaskConfig
from pipelines.decontamination.harness import harness_items
from pipelines.decontamination.walk import strings_of
from pipelines.paths import expand_paths, file_format
from pipelines.streams import open_stream

_FIELD = "curation.decontamination"

Items = Iterator[list[str]]


@dataclass(frozen=True, slots=True)
class Task:
    """One evaluation set; ``items`` yields the texts of each item in turn, and can be called again."""

    name: str
    items: Callable[[], Items]


def find_tasks(config: DecontaminationConfig) -> list[Task]:
    """The evaluation sets that a configuration names, sorted by name.

    Raises:
        UserError: none is named, a name stands for two, a file is missing, or lm-eval or a task of it is.
    """
    tasks: dict[str, Task] = {}

    def add(name: str, items: Callable[[], Items]) -> None:
        if name in tasks:
            raise UserError(_FIELD, f"two evaluation sets are called {name!r}", "give them names under tasks")
        tasks[name] = Task(name, items)

    for name, task in config.tasks.items():
        field = f"{_FIELD}.tasks.{name}"
        files = expand_paths(task.paths, f"{field}.paths")
        add(name, partial(_file_items, files, task, field))
    for file in expand_paths(config.paths, f"{_FIELD}.paths") if config.paths else ():
        task = TaskConfig(paths=(file,), fields=FIELDS)
        add(PurePosixPath(file).name.split(".")[0], partial(_file_items, [file], task, _FIELD))
    for name, items in harness_items(config.lm_eval).items():
        add(name, items)
    if not tasks:
        raise UserError(_FIELD, "names no evaluation set", "set tasks, paths or lm_eval, or leave the section out")
    return [tasks[name] for name in sorted(tasks)]


def _file_items(files: list[str], task: TaskConfig, field: str) -> Items:
    wanted = {name.casefold() for name in task.fields}
    for file in files:
        kind, compression = file_format(file, "auto", field)
        if kind not in ("jsonl", "json"):
            raise UserError(f"{field}.paths", f"{file} is no JSONL file", "write one JSON object a line")
        seen: dict[str, None] = {}
        usable = False
        with open_stream(file, compression, field) as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                record = _record(line, file, number, field)
                seen.update(dict.fromkeys(record))
                chosen = (value for key, value in record.items() if key.casefold() in wanted)
                texts = [text for value in chosen for text in strings_of(value)]
                usable = usable or any(text.strip() for text in texts)
                yield texts
        if not usable:
            names = ", ".join(list(seen)[:20]) or "none"
            mend = f"name the ones to compare under {_FIELD}.tasks.<name>.fields"
            raise UserError(field, f"{file} has no text in a known field (its fields: {names})", mend)


def _record(line: bytes, file: str, number: int, field: str) -> dict[str, object]:
    """One item. A broken line is an error: what cannot be read cannot be kept out of the training data."""
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # RecursionError: thousands of opening brackets
        mend = "an evaluation set must be one JSON object a line"
        raise UserError(f"{field}.paths", f"line {number} of {file} is no JSON ({error})", mend) from None
    if not isinstance(record, dict):
        mend = "an evaluation set must be one JSON object a line"
        raise UserError(f"{field}.paths", f"line {number} of {file} is no JSON object", mend)
    return record
