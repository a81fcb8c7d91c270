"""Evaluations of a recipe's models, found on disk, as the report shows them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.evaluate import COMPARISON
from cluster.recipe import Recipe
from cluster.workflow import Finished
from ground.errors import UserError
from tracking.report_data import PairedDifference, TaskResults, TaskScore
from training.compare import compare
from training.tasks.results import RESULTS, Evaluation, read_evaluation

_BASE = "base model"
_EVALUATIONS = "evaluations"
_TASKS = "tasks"  # in a run's folder: what its checkpoints answered


@dataclass(frozen=True)
class _Found:
    """An evaluation on disk and whose it is."""

    folder: Path
    label: str
    run: str
    evaluation: Evaluation

    @property
    def asked(self) -> tuple[tuple[str, int], ...]:
        return tuple((score.task, score.n) for score in self.evaluation.tasks)


def find_task_results(recipe: Recipe, finished: Sequence[Finished]) -> tuple[tuple[TaskResults, ...], tuple[str, ...]]:
    """What the base model and the runs answered, and a sentence for each evaluation that cannot be read.

    Looked at are the last answers in each run's folder (and those of step 0, the base's), what `steady evaluate` wrote beside
    the work folder, and the evaluations which those were compared with. Of several that asked a model the same, the newest
    counts. Each is compared with the one that ``--against`` named, else with the base's, else with the first run's.
    """
    wanted, notes = _folders(recipe, finished), []
    found: dict[tuple[str, tuple[tuple[str, int], ...]], _Found] = {}
    seen: set[Path] = set()
    while wanted:
        folder, label, run = wanted.pop(0)
        if folder.resolve() in seen:
            continue
        seen.add(folder.resolve())
        try:
            one = _Found(folder, label, run, read_evaluation(folder))
        except UserError as error:
            notes.append(f"An evaluation is left out: {error.problem}.")
            continue
        known = found.get((label, one.asked))
        if known is None or _age(known.folder) < _age(folder):
            found[label, one.asked] = one
        if (other := _named_other(folder)) is not None and (other / RESULTS).is_file():
            wanted.append((other, *_owner(other, recipe, finished)))
    ordered = sorted(found.values(), key=lambda one: (one.run == "" and one.label != _BASE, one.run != ""))
    return tuple(_results(one, ordered) for one in ordered), tuple(notes)


def _folders(recipe: Recipe, finished: Sequence[Finished]) -> list[tuple[Path, str, str]]:
    """Folders of evaluations: (folder, whose it is as printed, name of the run)."""
    folders = []
    for run in finished:
        own = recipe.work_folder / "runs" / run.name / _TASKS
        steps = sorted(int(path.parent.name.removeprefix("step-")) for path in own.glob(f"step-*/{RESULTS}"))
        if steps and steps[0] == 0:
            folders.append((own / "step-0", _BASE, ""))
        if steps and (last := steps[-1]) > 0:
            label = run.name if last == run.outcome.steps else f"{run.name}, step {last:,}"
            folders.append((own / f"step-{last}", label, run.name))
    beside = {Path(".steady"), recipe.work_folder.parent, recipe.work_folder}
    for path in sorted(path for place in beside for path in (place / _EVALUATIONS).glob(f"*/{RESULTS}")):
        label, name = _owner(path.parent, recipe, finished)
        if name or label == _BASE:
            folders.append((path.parent, label, name))
    return folders


def _owner(folder: Path, recipe: Recipe, finished: Sequence[Finished]) -> tuple[str, str]:
    """(as printed, name of the run or empty) of the model that an evaluation is of."""
    try:
        model = Path(json.loads((folder / RESULTS).read_text())["settings"]["model"]).resolve()
    except (ValueError, KeyError, TypeError):
        return folder.name, ""  # reading it in full will say what is wrong
    runs = (recipe.work_folder / "runs").resolve()
    names = {run.name for run in finished}
    if model.is_relative_to(runs) and model != runs and (name := model.relative_to(runs).parts[0]) in names:
        return name, name
    if recipe.model.base and Path(recipe.model.base).resolve() == model:
        return _BASE, ""
    return model.name, ""


def _named_other(folder: Path) -> Path | None:
    """The evaluation that ``--against`` named, None if nothing was compared."""
    path = folder / COMPARISON
    try:
        against = Path(json.loads(path.read_text())["against"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return against.parent if against.is_file() else against


def _results(one: _Found, every: Sequence[_Found]) -> TaskResults:
    other, differences = _differences(one, every)
    weights = one.evaluation.groups
    items = {score.task: score.n for score in one.evaluation.tasks}
    groups = [
        TaskScore(
            name=score.group,
            group=True,
            items=sum(items[task] for task in weights[score.group]),
            accuracy=score.acc,
            stderr=score.acc_stderr,
            difference=differences.get(score.group),
        )
        for score in one.evaluation.group_scores
    ]
    tasks = [
        TaskScore(
            name=score.task,
            group=False,
            items=score.n,
            accuracy=score.acc,
            stderr=score.acc_stderr,
            difference=differences.get(score.task),
        )
        for score in one.evaluation.tasks
    ]
    return TaskResults(model=one.label, run=one.run, against=other, scores=(*groups, *tasks))


def _differences(one: _Found, every: Sequence[_Found]) -> tuple[str, dict[str, PairedDifference]]:
    """The model to compare with, as printed, and the differences by group and task; none when there is no other."""
    for other in _others(one, every):
        try:
            found = compare(one.evaluation, other.evaluation)
        except UserError:  # other items: there is nothing to pair
            continue
        return other.label, {d.name: PairedDifference(value=d.difference, low=d.low, high=d.high) for d in found}
    return "", {}


def _others(one: _Found, every: Sequence[_Found]) -> list[_Found]:
    """What to compare with, the best first."""
    named = _named_other(one.folder)
    chosen = [other for other in every if named is not None and other.folder.resolve() == named.resolve()]
    if one.run:
        chosen += [other for other in every if other.label == _BASE]
        first = next(other for other in every if other.run)
        chosen += [other for other in every if other.run == first.run != one.run]
    return [other for other in chosen if other.label != one.label]


def _age(folder: Path) -> float:
    return (folder / RESULTS).stat().st_mtime
