"""What an evaluation found: a score for each task, groups' means, and each item's correctness for paired comparison."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ground.errors import UserError
from ground.files import canonical_json, write_atomic

RESULTS, ITEMS = "results.json", "items.jsonl"


@dataclass(frozen=True, slots=True)
class ItemScore:
    """One item, answered."""

    task: str
    key: str
    """Unique within the task."""
    digest: str
    """Of the words the model saw and of the right answer: two results are of one item only when this is equal."""
    acc: float
    """1 if the right choice had the highest log-likelihood, else 0."""
    acc_norm: float | None
    """The same with log-likelihoods divided by the choices' lengths in characters; None where lm-eval has none."""


@dataclass(frozen=True, slots=True)
class TaskScore:
    """lm-eval's numbers for one task, as fractions of 1."""

    task: str
    n: int
    acc: float
    acc_stderr: float | None
    """Sample standard deviation over the square root of ``n``; None for one item."""
    acc_norm: float | None
    acc_norm_stderr: float | None


@dataclass(frozen=True, slots=True)
class GroupScore:
    """A group's mean accuracy."""

    group: str
    acc: float
    acc_stderr: float | None
    tasks: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that one evaluation keeps."""

    settings: Mapping[str, Any]
    """What was evaluated and how: model, data, limit, device, dtype, batch, versions."""
    groups: Mapping[str, Mapping[str, float]]
    """Group -> task -> weight."""
    tasks: Sequence[TaskScore]
    items: Sequence[ItemScore]

    @property
    def group_scores(self) -> list[GroupScore]:
        """The groups' means, see `group_score`."""
        scores = {score.task: score for score in self.tasks}
        return [group_score(group, weights, scores) for group, weights in self.groups.items()]

    def write(self, folder: Path) -> None:
        """Write ``results.json`` and ``items.jsonl``; the results last, so that they are never without items."""
        write_atomic(
            folder / ITEMS, "".join(f"{json.dumps(asdict(item), ensure_ascii=False)}\n" for item in self.items)
        )
        record = {
            "settings": dict(self.settings),
            "group_weights": {name: dict(weights) for name, weights in self.groups.items()},
            "groups": {score.group: asdict(score) for score in self.group_scores},
            "tasks": {score.task: asdict(score) for score in self.tasks},
        }
        write_atomic(folder / RESULTS, canonical_json(record))


def read_evaluation(folder: Path) -> Evaluation:
    """The evaluation in a folder (or the folder of a file of it).

    Raises:
        UserError: there is none, or it is broken.
    """
    folder = folder.parent if folder.name in (RESULTS, ITEMS) else folder
    if not (folder / RESULTS).is_file() or not (folder / ITEMS).is_file():
        mend = f"give a folder that `steady evaluate` wrote ({RESULTS} and {ITEMS})"
        raise UserError("--against", f"{folder} holds no evaluation", mend)
    try:
        record = json.loads((folder / RESULTS).read_text())
        items = [ItemScore(**json.loads(line)) for line in (folder / ITEMS).read_text().splitlines()]
        order = dict.fromkeys(item.task for item in items)  # the keys of the results are sorted
        tasks = [TaskScore(**record["tasks"][task]) for task in order]
        return Evaluation(record["settings"], record["group_weights"], tasks, items)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError("--against", f"{folder} is broken ({error})", "evaluate that model again") from None


def group_score(group: str, weights: Mapping[str, float], scores: Mapping[str, TaskScore]) -> GroupScore:
    """Mean of the tasks' accuracies and its standard error.

    With weights w_t that sum to 1: mean = sum w_t acc_t, standard error = sqrt(sum w_t^2 se_t^2), as for independent
    estimates (no item is in two tasks). The items of a task are the sample; which tasks are in the group is not.
    """
    mean = math.fsum(weight * scores[task].acc for task, weight in weights.items())
    errors = [(weight, scores[task].acc_stderr) for task, weight in weights.items()]
    squares = [(weight * error) ** 2 for weight, error in errors if error is not None]
    error = math.sqrt(math.fsum(squares)) if len(squares) == len(errors) else None
    return GroupScore(group, mean, error, len(weights))
