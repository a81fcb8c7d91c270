"""Whether the tasks that a recipe asks for can be answered."""

from __future__ import annotations

from pathlib import Path

from training.config import EvaluationConfig
from training.tasks.groups import parse_tasks
from training.tasks.local import local_items


def check_tasks(config: EvaluationConfig) -> None:
    """Fail before anything starts when the tasks cannot be answered.

    Raises:
        UserError: a group or task is unknown, or its local items are missing.
    """
    if config.tasks is None:
        return
    names, _ = parse_tasks(config.tasks)
    for name in names if config.tasks_data else ():
        local_items(name, Path(config.tasks_data or ""), config.tasks_limit)
