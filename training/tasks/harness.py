"""Runs lm-eval, offline when the items are local, on a Hugging Face model folder. lm-eval is imported on use: it is slow."""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ground.errors import UserError
from ground.files import digest_bytes
from training.tasks.local import local_items
from training.tasks.prompts import Item, prompt_of
from training.tasks.results import Evaluation, ItemScore, TaskScore

_LOAD_ERRORS = (OSError, ValueError, LookupError, ImportError, RuntimeError)
"""What lm-eval, ``datasets`` and ``transformers`` raise for a name, a network or a folder that is not there."""


def evaluate_model(
    model: Path,
    tasks: Sequence[str],
    groups: Mapping[str, Mapping[str, float]],
    *,
    data: Path | None = None,
    limit: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    batch: int = 8,
) -> Evaluation:
    """Ask the model in a Hugging Face folder every item of the tasks, without examples (zero-shot).

    Args:
        tasks: names of lm-eval's tasks, or with ``data`` also of any file in it.
        groups: group -> task -> weight, for the means.
        data: folder of JSONL with the items; None: lm-eval's own tasks, from the hub or its cache.
        limit: only the first items of each task.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        dtype: type of the weights while they run; ``auto``: as saved.
        batch: rows of a forward pass.

    Raises:
        UserError: the folder holds no model, a task is unknown, its data is missing or it is not multiple choice.
    """
    require_model(model)
    local = {task: local_items(task, data, limit) for task in tasks} if data else {}
    evaluator = _lm_eval("lm_eval.evaluator")
    with _task_specs(tasks, local) as specs:
        manager = _lm_eval("lm_eval.tasks").TaskManager(include_defaults=not data)
        if not data:
            _require_tasks(manager, tasks)
        found = evaluator.simple_evaluate(
            model=_language_model(model, device, dtype, batch),
            tasks=specs,
            limit=None if data else limit,
            num_fewshot=0,
            task_manager=manager,
        )
    settings = {
        "model": str(model),
        "data": str(data) if data else None,
        "limit": limit,
        "device": device,
        "dtype": dtype,
        "batch": batch,
        "versions": {name: version(name) for name in ("lm-eval", "torch", "transformers")},
    }
    items = [item for task in tasks for item in _item_scores(task, found["samples"][task])]
    scores = [_task_score(task, found["results"][task], len(found["samples"][task])) for task in tasks]
    return Evaluation(settings, groups, scores, items)


def require_model(model: Path) -> None:
    """Raises UserError unless ``model`` is a folder with a Hugging Face configuration and weights."""
    if not (model / "config.json").is_file():
        mend = "give a Hugging Face folder (config.json, safetensors, tokenizer), a run's folder or a run's name"
        raise UserError("MODEL", f"{model} is no model folder", mend)
    if not any(model.glob("*.safetensors")):  # other formats are pickles, which may run code
        raise UserError("MODEL", f"{model} has no weights (*.safetensors)", "copy the model again, or export the run")


def _lm_eval(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError("evaluate", f"lm-eval cannot be imported ({error})", "pip install 'steady[lm-eval]'") from None


def _language_model(model: Path, device: str, dtype: str, batch: int) -> Any:
    module = _lm_eval("lm_eval.models.huggingface")
    try:
        return module.HFLM(pretrained=str(model), device=device, dtype=dtype, batch_size=batch)
    except (*_LOAD_ERRORS, AssertionError, TypeError) as error:
        raise UserError(
            "MODEL", f"{model} cannot be loaded ({_reason(error)})", "check the folder and --device"
        ) from None


def _require_tasks(manager: Any, tasks: Sequence[str]) -> None:
    """Load each task alone, so that the error names the one that fails."""
    for task in tasks:
        try:
            loaded = manager.load([task])["tasks"]
        except _LOAD_ERRORS as error:
            mend = "check the name (lm-eval ls tasks) and the network, or give local files with --data"
            raise UserError("--tasks", f"{task!r} cannot be loaded ({_reason(error)})", mend) from None
        if list(loaded) != [task]:
            mend = f"name its tasks: {','.join(list(loaded)[:8])}"
            raise UserError("--tasks", f"{task!r} is a group of lm-eval, not a task", mend)
        if loaded[task].get_config("output_type") != "multiple_choice":
            raise UserError("--tasks", f"{task!r} is not multiple choice", "name a multiple-choice task")


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


@contextmanager
def _task_specs(tasks: Sequence[str], local: Mapping[str, Sequence[Item]]) -> Iterator[list[Any]]:
    """lm-eval's specifications of the tasks: names, or for local ones descriptions over files in a temporary folder."""
    if not local:
        yield list(tasks)
        return
    with tempfile.TemporaryDirectory(prefix="steady-tasks-") as temporary:
        folder = Path(temporary)
        yield [_write_task(task, items, folder) for task, items in local.items()]


def _write_task(task: str, items: Sequence[Item], folder: Path) -> dict[str, Any]:
    file = folder / f"{task}.jsonl"
    try:
        prompts = [prompt_of(task, item) for item in items]
    except ValueError as error:
        raise UserError("--data", f"an item of {task} cannot be asked: {error}", "correct the file") from None
    rows = [
        {
            "id": item.key,
            "query": prompt.text,
            "choices": list(prompt.choices),
            "gold": item.gold,
            "ending": prompt.ending,
        }
        for item, prompt in zip(items, prompts, strict=True)
    ]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    has_ending = prompts[0].ending is not None
    return {
        "task": task,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "output_type": "multiple_choice",
        "num_fewshot": 0,
        # With an integer as text, lm-eval takes the choices as contexts and the target as what is scored after each.
        "doc_to_text": "gold" if has_ending else "query",
        "doc_to_choice": "choices",
        "doc_to_target": "ending" if has_ending else "gold",
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")
        ],
    }


def _item_scores(task: str, samples: Sequence[Mapping[str, Any]]) -> Iterator[ItemScore]:
    """The items in lm-eval's order. Items of the hub have no common name for their key: the hash of the row is one."""
    seen: Counter[str] = Counter()
    for sample in sorted(samples, key=lambda one: int(one["doc_id"])):
        document = sample["doc"]
        key = str(document["id"]) if "id" in document and "query" in document else str(sample["doc_hash"])
        seen[key] += 1
        key = key if seen[key] == 1 else f"{key}#{seen[key]}"
        shown = json.dumps([list(arguments)[:2] for arguments in sample["arguments"]] + [str(sample["target"])])
        norm = sample.get("acc_norm")
        yield ItemScore(task, key, digest_bytes(shown), float(sample["acc"]), None if norm is None else float(norm))


def _task_score(task: str, result: Mapping[str, Any], n: int) -> TaskScore:
    def number(name: str) -> float | None:
        value = result.get(f"{name},none")
        return float(value) if isinstance(value, int | float) and not math.isnan(value) else None

    acc = number("acc")
    assert acc is not None, f"lm-eval gave no accuracy for {task}"
    return TaskScore(task, n, acc, number("acc_stderr"), number("acc_norm"), number("acc_norm_stderr"))
