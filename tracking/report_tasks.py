"""The report's section on tasks: accuracy at checkpoints, and what `steady evaluate` found of the models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from tracking.charts import Chart, Series, recorded_curve, run_series
from tracking.figures import NONE, exact
from tracking.html import Cell, Row, paragraph, run_colour, section, table
from tracking.report_data import PairedDifference, ReportData, RunData, TaskResults, TaskScore
from tracking.report_sections import grid

_CURVES = "Accuracy at checkpoints, with a bar of one standard error to either side; the dashed line is the base model."
_TABLE = (
    "Accuracy in %, \u00b1 its standard error; the accuracy of a group (bold) is the mean of its tasks. Differences are in "
    "percentage points over the same questions, with the 95\u2009% interval of a paired bootstrap: bold where it leaves out 0."
)


def task_charts(data: ReportData) -> list[Chart]:
    """Accuracy over tokens of every group and task that was asked at checkpoints, groups first."""
    names = {name.split("/")[1] for run in data.runs for name in run.curves if _is_accuracy(name)}
    groups = {score.name for result in data.tasks for score in result.scores if score.group}
    return [_chart(data, name) for name in sorted(names, key=lambda name: (name not in groups, name))]


def tasks(data: ReportData, charts: Sequence[Chart]) -> str:
    """The curves and one table for each set of tasks that models were asked; empty when no model was."""
    if not charts and not data.tasks:
        return ""
    curves = [paragraph(_CURVES, "note"), grid(charts)] if charts else []
    tables = [paragraph(_TABLE, "note"), *(_table(data, alike) for alike in _alike(data.tasks))] if data.tasks else []
    return section("tasks", "Tasks", *curves, *tables)


def _is_accuracy(metric: str) -> bool:
    parts = metric.split("/")
    return len(parts) == 3 and parts[0] == "task" and parts[2] == "accuracy"


def _chart(data: ReportData, name: str) -> Chart:
    metric = f"task/{name}/accuracy"
    series = run_series(data, partial(recorded_curve, metric))
    starts = {line.points[0][1] for line in series if line.points[0][0] == 0}
    return Chart(
        anchor=f"task-{name}",
        title=name,
        y_label="accuracy",
        series=tuple(_with_errors(line, data.runs[line.colour], metric) for line in series),
        base=starts.pop() if len(starts) == 1 else None,  # models of other starts have no line in common
        unit="fraction",
    )


def _with_errors(line: Series, run: RunData, metric: str) -> Series:
    known = dict(run.curves.get(f"{metric}_stderr", ()))
    errors = [known.get(tokens, 0.0) for tokens, _ in line.points]
    return replace(line, errors=tuple(error if math.isfinite(error) else 0.0 for error in errors)) if known else line


def _alike(results: Sequence[TaskResults]) -> list[list[TaskResults]]:
    """The results by what was asked: the same tasks, as many items of each."""
    sets: dict[tuple[tuple[str, int], ...], list[TaskResults]] = {}
    for result in results:
        sets.setdefault(tuple((score.name, score.items) for score in result.scores), []).append(result)
    return list(sets.values())


def _table(data: ReportData, results: Sequence[TaskResults]) -> str:
    """Rows are groups and tasks, columns models."""
    runs = [run.name for run in data.runs]
    head: list[Cell | str] = ["task", "items"]
    groups = [("", 2)]
    for result in results:
        mark = run_colour(runs.index(result.run)) if result.run in runs else ""
        head.append(Cell("accuracy", swatch=mark))
        head += [f"against {result.against}"] if result.against else []
        groups.append((result.model, 2 if result.against else 1))
    rows: list[Row] = []
    for number, first in enumerate(results[0].scores):
        row: list[Cell | str] = [Cell(first.name, strong=first.group), exact(first.items)]
        for result in results:
            score = result.scores[number]
            row.append(_accuracy(score))
            row += [_difference(score.difference)] if result.against else []
        rows.append(row)
    return table(head, rows, groups)


def _accuracy(score: TaskScore) -> Cell:
    error = "" if score.stderr is None else f"\u00b1 {100 * score.stderr:.1f}"
    return Cell(f"{100 * score.accuracy:.1f}", strong=score.group, note=error)


def _difference(found: PairedDifference | None) -> Cell | str:
    if found is None:
        return NONE
    interval = f"{_points(found.low)} to {_points(found.high)}"
    return Cell(_points(found.value), strong=found.low > 0 or found.high < 0, note=interval)


def _points(value: float) -> str:
    text = f"{abs(100 * value):.1f}"
    return text if float(text) == 0 else ("+" if value > 0 else "\u2212") + text
