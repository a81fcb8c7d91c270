from __future__ import annotations

from pathlib import Path

import pytest

from cluster.evaluate import COMPARISON
from cluster.recipe import Recipe, load_recipe
from cluster.task_results import find_task_results
from cluster.workflow import Finished
from ground.files import canonical_json
from tests.helpers.recipes import small_recipe
from training.job import Outcome
from training.tasks.results import RESULTS, Evaluation, ItemScore, TaskScore


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    base = tmp_path / "base"
    base.mkdir()
    return load_recipe(small_recipe(tmp_path, with_store=False, model={"base": str(base)}))


def finished(recipe: Recipe, *names: str) -> list[Finished]:
    target = recipe.work_folder / "model"
    return [Finished(name, Outcome(steps=40, tokens=1, model=target, seconds=1.0), {}, {}) for name in names]


def write(folder: Path, model: Path | str, right: int, items: int = 20) -> Path:
    """An evaluation of one group of one task with so many right answers."""
    scores = [ItemScore("sciq", str(i), "d", float(i < right), None) for i in range(items)]
    task = TaskScore("sciq", items, right / items, 0.1, None, None)
    Evaluation({"model": str(model)}, {"general": {"sciq": 1.0}}, [task], scores).write(folder)
    return folder


def test_answers_at_checkpoints_are_compared_with_those_of_step_0(recipe: Recipe) -> None:
    own = recipe.work_folder / "runs" / "a" / "tasks"
    for step, right in ((0, 5), (20, 8), (100, 12)):
        write(own / f"step-{step}", "m", right)
    results, notes = find_task_results(recipe, finished(recipe, "a"))
    assert notes == ()
    assert [(r.model, r.run, r.against) for r in results] == [
        ("base model", "", ""),
        ("a, step 100", "a", "base model"),
    ]
    assert [(s.name, s.group, s.items, s.accuracy) for s in results[1].scores] == [
        ("general", True, 20, 0.6),
        ("sciq", False, 20, 0.6),
    ]
    found = results[1].scores[0].difference
    assert found is not None and found.value == pytest.approx(0.35) and found.low < 0.35 < found.high


def test_what_evaluate_wrote_is_told_apart_by_its_model(recipe: Recipe) -> None:
    place = recipe.work_folder / "evaluations"
    write(place / "base", str(recipe.model.base), 5)
    write(place / "a", recipe.work_folder / "runs" / "a" / "model", 9)
    write(place / "stranger", "/models/other", 1)
    results, _ = find_task_results(recipe, finished(recipe, "a"))
    assert [(r.model, r.run) for r in results] == [("base model", ""), ("a", "a")]


def test_the_evaluation_that_against_named_is_shown_and_compared_with(recipe: Recipe, tmp_path: Path) -> None:
    other = write(tmp_path / "elsewhere", "/models/other", 1)
    write(recipe.work_folder / "evaluations" / "base", str(recipe.model.base), 5)
    ours = write(recipe.work_folder / "evaluations" / "a", recipe.work_folder / "runs" / "a" / "model", 9)
    (ours / COMPARISON).write_text(canonical_json({"against": str(other), "differences": []}))
    results, _ = find_task_results(recipe, finished(recipe, "a"))
    assert [(r.model, r.against) for r in results] == [("base model", ""), ("a", "other"), ("other", "")]


def test_without_the_base_runs_are_compared_with_the_first(recipe: Recipe) -> None:
    for name, right in (("a", 5), ("b", 9)):
        write(recipe.work_folder / "runs" / name / "tasks" / "step-40", "m", right)
    results, _ = find_task_results(recipe, finished(recipe, "a", "b"))
    assert [(r.model, r.against) for r in results] == [("a", ""), ("b", "a")]


def test_other_items_are_not_compared_and_a_broken_evaluation_is_told(recipe: Recipe) -> None:
    place = recipe.work_folder / "evaluations"
    write(place / "base", str(recipe.model.base), 5, items=10)
    write(place / "a", recipe.work_folder / "runs" / "a" / "model", 9)
    broken = write(place / "b", recipe.work_folder / "runs" / "a" / "model", 9)
    (broken / RESULTS).write_text(canonical_json({"settings": {"model": str(recipe.model.base)}}))
    results, notes = find_task_results(recipe, finished(recipe, "a"))
    assert [(r.model, r.against) for r in results] == [("base model", ""), ("a", "")]
    assert len(notes) == 1 and "is broken" in notes[0]
