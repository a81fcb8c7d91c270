"""``steady evaluate``: multiple-choice tasks on a model, and the paired difference to another evaluation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from cluster.console import console
from cluster.workflow import RESULT
from ground.errors import UserError
from ground.files import canonical_json, digest_bytes, write_atomic
from training.compare import Difference, compare
from training.tasks.groups import parse_tasks
from training.tasks.harness import evaluate_model, require_model
from training.tasks.results import RESULTS, Evaluation, read_evaluation

COMPARISON = "comparison.json"
_WORK = Path(".steady")


def evaluate(
    model: str,
    tasks: str,
    *,
    data: Path | None = None,
    limit: int | None = None,
    against: Path | None = None,
    out: Path | None = None,
    device: str | None = None,
    dtype: str | None = None,
    batch: int = 8,
) -> Evaluation:
    """Evaluate a model, show and write what was found.

    Args:
        model: a Hugging Face folder, the folder of a finished run, or the name of a run below ``.steady``.
        tasks: groups and tasks with commas between; ``-name`` leaves one out.
        data: folder of JSONL with the items; None: the hub.
        limit: only the first items of each task.
        against: folder of an earlier evaluation to compare with.
        out: folder to write to; None: one below ``.steady/evaluations`` that the model, the tasks and the options name.
        device: None: a GPU if there is one.
        dtype: None: as saved on a GPU, float32 on a CPU.
        batch: rows of a forward pass.

    Raises:
        UserError: see `evaluate_model` and `compare`; whatever can be checked before the model runs is.
    """
    names, groups = parse_tasks(tasks)
    folder = find_model(model)
    other = read_evaluation(against) if against else None
    chosen = device or _device()
    target = out or _default_out(folder, tasks, data, limit)
    done = evaluate_model(
        folder,
        names,
        groups,
        data=data,
        limit=limit,
        device=chosen,
        dtype=dtype or ("float32" if chosen == "cpu" else "auto"),
        batch=batch,
    )
    done.write(target)
    _show(done)
    if other is not None:
        differences = compare(done, other)
        record = {"against": str(against), "differences": [_plain(difference) for difference in differences]}
        write_atomic(target / COMPARISON, canonical_json(record))
        _show_differences(differences, str(against))
    console.print(f"results in {target / RESULTS}")
    return done


def find_model(name: str) -> Path:
    """The model folder that ``name`` means: itself, the model of a finished run's folder, or of a run of that name.

    Raises:
        UserError: it means none, or several.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        itself = _model_of_run(path) or path
        require_model(itself)
        return itself
    runs = sorted(_WORK.glob(f"*/runs/{name}")) if "/" not in name and not any(c in name for c in "*?[") else []
    found = [model for run in runs if (model := _model_of_run(run)) is not None]
    if len(found) > 1:
        choices = ", ".join(str(run) for run in runs)
        raise UserError("MODEL", f"{len(found)} runs are called {name!r}", f"give the folder of one: {choices}")
    if runs and not found:
        mend = "go on with `steady train`, `steady export` a checkpoint, or give a model folder"
        raise UserError("MODEL", f"run {name!r} is not finished", mend)
    if not found:
        mend = "give a Hugging Face folder (config.json, safetensors, tokenizer), a run's folder or a run's name"
        raise UserError("MODEL", f"{name!r} is neither a folder nor a run below {_WORK}", mend)
    require_model(found[0])
    return found[0]


def _model_of_run(folder: Path) -> Path | None:
    if not (folder / RESULT).is_file():
        return None
    kept = Path(json.loads((folder / RESULT).read_text())["model"])
    return kept if kept.is_dir() else folder / kept.name  # the run's folder may have been moved


def _default_out(model: Path, tasks: str, data: Path | None, limit: int | None) -> Path:
    """Another command, another folder: an evaluation never replaces one of something else."""
    asked = f"{model.resolve()} {tasks} {data and data.resolve()} {limit}"
    name = model.resolve().parent.name if model.name == "model" else model.resolve().name
    return _WORK / "evaluations" / f"{name}-{digest_bytes(asked)[:8]}"


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _plain(difference: Difference) -> dict[str, object]:
    return {name: getattr(difference, name) for name in Difference.__slots__}


def _show(done: Evaluation) -> None:
    table = Table(title=f"accuracy in % ± standard error, {done.settings['model']}", title_justify="left")
    for column in ("", "acc", "acc_norm", "items"):
        table.add_column(column, justify="left" if not column else "right")
    for group in done.group_scores:
        table.add_row(f"[bold]{group.group}[/bold]", _percent(group.acc, group.acc_stderr), "", f"{group.tasks} tasks")
    table.add_section()
    for task in done.tasks:
        norm = "" if task.acc_norm is None else _percent(task.acc_norm, task.acc_norm_stderr)
        table.add_row(task.task, _percent(task.acc, task.acc_stderr), norm, f"{task.n:,}")
    console.print(table)


def _show_differences(differences: Sequence[Difference], against: str) -> None:
    table = Table(title=f"difference in points to {against} (paired bootstrap)", title_justify="left")
    for column in ("", "difference", "95 % interval", "p", "items"):
        table.add_column(column, justify="left" if not column else "right")
    for one in differences:
        interval = f"{100 * one.low:+.2f} to {100 * one.high:+.2f}"
        table.add_row(one.name, f"{100 * one.difference:+.2f}", interval, f"{one.p:.4f}", f"{one.n:,}")
    console.print(table)


def _percent(value: float, error: float | None) -> str:
    return f"{100 * value:.2f}" + ("" if error is None else f" ± {100 * error:.2f}")
