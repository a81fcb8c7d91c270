"""Tasks from a folder of JSONL: ``question``, ``options`` (letter -> text, or a list), ``answer`` (letter or index).

``context``, ``id``, ``split`` and ``task`` may be there too. A task is the file of its name, or the rows of its name in
the field ``task`` of a file whose name begins it (``mmlu.jsonl.zst`` holds ``mmlu_anatomy``).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ground.errors import UserError
from pipelines.paths import file_format
from pipelines.streams import open_stream
from training.tasks.prompts import Item

_ENDINGS = (".jsonl", ".jsonl.zst", ".jsonl.gz")
_ALIASES = {"medqa_4options": ("medqa_us", "medqa")}
"""What else the file of a task may be called."""
_SPLITS = ("test", "validation", "valid", "val", "dev")
"""The first of these that a file has is asked, as in lm-eval: the test split, or else the validation split."""


def local_items(task: str, folder: Path, limit: int | None = None) -> list[Item]:
    """The items of ``task`` in a folder of JSONL files, in the files' order; the first ``limit`` of them.

    Raises:
        UserError: there is no such folder or file, a row is not of this form, or no row is of the task.
    """
    file = _file_of(task, folder)
    rows: dict[str, list[Item]] = {}
    seen: Counter[str] = Counter()
    for number, row in _rows(file):
        if file.name.split(".")[0] not in (task, *_ALIASES.get(task, ())) and row.get("task") != task:
            continue
        try:
            item = _item(row, number)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            mend = "an item has question, options (letter -> text) and answer (a letter)"
            raise UserError("--data", f"line {number} of {file} is no item: {reason}", mend) from None
        seen[item.key] += 1
        if seen[item.key] > 1:  # HellaSwag's ids repeat; a pair of results must still know which is which
            item = Item(f"{item.key}#{seen[item.key]}", item.question, item.options, item.gold, item.context)
        rows.setdefault(str(row.get("split", "")), []).append(item)
    split = next((name for name in _SPLITS if name in rows), "")
    if not rows.get(split):
        raise UserError(
            "--data", f"{file} has no item of {task}", "check its fields task and split (test or validation)"
        )
    return rows[split][:limit]


def _file_of(task: str, folder: Path) -> Path:
    if not folder.is_dir():
        raise UserError("--data", f"there is no folder {folder}", "check the path, or leave --data out to use the hub")
    names = [task, *_ALIASES.get(task, ())]
    parts = task.split("_")
    names += ["_".join(parts[:length]) for length in range(len(parts) - 1, 0, -1)]  # mmlu_anatomy: mmlu
    for name in names:
        for ending in _ENDINGS:
            if (file := folder / f"{name}{ending}").is_file():
                return file
    there = sorted({file.name.split(".")[0] for file in folder.iterdir() if file.name.endswith(_ENDINGS)})
    raise UserError(
        "--data",
        f"{folder} has no {task}.jsonl (it has {', '.join(there) or 'no .jsonl file'})",
        f"add the file (.zst or .gz may follow), or leave the task out: --tasks ...,-{task}",
    )


def _rows(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    _, compression = file_format(str(file), "auto", "--data")
    with open_stream(str(file), compression, "--data") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                mend = "a file of items is one JSON object a line"
                raise UserError("--data", f"line {number} of {file} is no JSON ({error})", mend) from None
            if not isinstance(row, dict):
                raise UserError("--data", f"line {number} of {file} is no JSON object", "write one object a line")
            yield number, row


def _item(row: Mapping[str, Any], number: int) -> Item:
    options, answer = row["options"], row["answer"]
    letters = list(options) if isinstance(options, dict) else [chr(65 + place) for place in range(len(options))]
    texts = [str(options[letter]) for letter in letters] if isinstance(options, dict) else [str(o) for o in options]
    if len(texts) < 2:
        raise ValueError("it has fewer than two options")
    gold = answer if isinstance(answer, int) else letters.index(answer) if answer in letters else -1
    if not 0 <= gold < len(texts):
        raise ValueError(f"its answer {answer!r} is none of its options ({', '.join(map(str, letters))})")
    context = str(row.get("context") or row.get("activity_label") or "")
    return Item(str(row.get("id", number)), str(row["question"]), tuple(texts), gold, context)
