"""Answering tasks with the model of a checkpoint, while training goes on elsewhere. Plain Python; Ray places it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from training.checkpoint import CHECKPOINTS, newest_first
from training.consolidate import require_undamaged
from training.export import export_checkpoint
from training.job import Job, Record
from training.tasks.groups import parse_tasks
from training.tasks.harness import evaluate_model
from training.tasks.results import RESULTS, Evaluation

TASKS = "tasks"
"""Folder of a run's task results, below the run's own."""


def unanswered(job: Job) -> list[Path]:
    """Checkpoints of a run without task results, the oldest first: those of a driver that was killed."""
    folder = Path(job.folder)
    found = reversed(newest_first(folder / CHECKPOINTS))
    return [path for path in found if not (folder / TASKS / path.name / RESULTS).is_file()]


def answer_checkpoint(job: Job, checkpoint: Path, device: str) -> Record:
    """The record of the tasks answered with a checkpoint's model.

    Raises:
        CorruptError: the checkpoint is damaged or was removed.
        UserError: see ``evaluate_model``.
    """
    position = require_undamaged(checkpoint)
    store = job.open_store()
    with tempfile.TemporaryDirectory(prefix="steady-tasks-") as scratch:
        model = Path(scratch) / "model"
        export_checkpoint(
            checkpoint,
            job.model,
            model,
            vocabulary=store.manifest.vocabulary,
            end_of_document=store.manifest.end_of_document,
            tokenizer=store.tokenizer_path,
            dtype=None,
            about={"run": job.name, "step": position.step},
            card=lambda _: f"Step {position.step} of run {job.name}, written to be evaluated.\n",
        )
        return answer_model(job, model, position.step, device)


def answer_model(job: Job, model: Path, step: int, device: str) -> Record:
    """The record of the tasks answered with a model's folder, which stands for ``step``; kept in the run's folder as well.

    Raises:
        UserError: see ``evaluate_model``.
    """
    config = job.evaluation
    names, groups = parse_tasks(config.tasks or "")
    done = evaluate_model(
        model,
        names,
        groups,
        data=Path(config.tasks_data) if config.tasks_data else None,
        limit=config.tasks_limit,
        device=device,
        dtype="float32" if device == "cpu" else "auto",
    )
    done.write(Path(job.folder) / TASKS / f"step-{step}")
    tokens = step * job.training.global_batch_tokens
    return {"step": step, "tokens": tokens, "time_ms": time.time_ns() // 1_000_000, "metrics": task_metrics(done)}


def task_metrics(done: Evaluation) -> dict[str, float]:
    """``task/<group or task>/accuracy`` and ``.../accuracy_stderr`` (where it is known), fractions of 1."""
    scores = [(one.group, one.acc, one.acc_stderr) for one in done.group_scores]
    scores += [(one.task, one.acc, one.acc_stderr) for one in done.tasks]
    metrics: dict[str, float] = {}
    for name, accuracy, error in scores:
        metrics[f"task/{name}/accuracy"] = accuracy
        if error is not None:
            metrics[f"task/{name}/accuracy_stderr"] = error
    return metrics
