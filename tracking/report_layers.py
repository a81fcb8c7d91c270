"""The report's section on layers: how far training has moved the lowest and the highest ones from the base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from tracking.charts import Chart, recorded_curve, run_series
from tracking.figures import NONE, count, percent
from tracking.html import Cell, Row, details, mark_runs, paragraph, run_colour, section, table
from tracking.report_data import ReportData, RunData
from tracking.report_sections import grid

_AT_AN_END = 5  # layers, as `training/updates.py` and the paper take them
_LAYER = "update/layer_"
_NOTE = (
    "How far a layer\u2019s weights have gone from the base model\u2019s: the length of the change over the length of the "
    "weights, as the mean of the lowest and of the highest layers. Guo et al. saw the lower layers move ahead (a ratio above "
    "1.35) while the stability gap opens, and a ratio that stays nearer to 1 when the gap is small. They average weight by "
    "weight, so compare the course of the ratio with theirs, not its size."
)


def layer_charts(data: ReportData) -> list[Chart]:
    """Relative update of the lowest layers, of the highest, and their ratio, as far as recorded."""
    sizes = {_layers_at_an_end(run) for run in data.runs} - {0}
    number = f" {sizes.pop()}" if len(sizes) == 1 else ""
    moved = "relative weight update"
    charts = (
        Chart(anchor="update-bottom", title=f"Lowest{number} layers", y_label=moved, series=(), unit="fraction"),
        Chart(anchor="update-top", title=f"Highest{number} layers", y_label=moved, series=(), unit="fraction"),
        Chart(
            anchor="update-ratio",
            title="Ratio, lowest to highest",
            y_label="ratio",
            series=(),
            base=1.0,
            base_label="both moved alike",
        ),
    )
    drawn = []
    for chart in charts:
        series = run_series(data, partial(recorded_curve, chart.anchor.replace("-", "/")))
        if series:
            drawn.append(replace(chart, series=series, from_zero=chart.base is None))
    return drawn


def layers(data: ReportData, charts: Sequence[Chart]) -> str:
    """The charts, what they say in one sentence a run, and the end of every layer; empty without ``update/*`` metrics."""
    if not charts:
        return ""
    sentences = [sentence for run in data.runs if (sentence := layer_sentence(run))]
    names = [run.name for run in data.runs]
    return section(
        "layers",
        "Layers",
        paragraph(_NOTE, "note"),
        *(f'<p class="reading">{mark_runs(names, sentence)}</p>' for sentence in sentences),
        grid(charts),
        _every_layer(data),
    )


def layer_sentence(run: RunData) -> str:
    """What the ratio did, first to last; empty where there is none."""
    curve = run.curves.get("update/ratio", ())
    if not curve:
        return ""
    (start, first), (_, last) = curve[0], curve[-1]
    text = (
        f"In {run.name} the lowest layers had moved {first:.2f} times as far as the highest after {count(start)} tokens"
    )
    if len(curve) == 1:
        return text + "."
    apart, nearer = abs(last - 1), abs(last - 1) < abs(first - 1)
    course = "so they move nearly alike now" if apart < 0.05 else "nearer to even" if nearer else "farther from even"
    return f"{text} and {last:.2f} times by the end, {course}."


def _layers_at_an_end(run: RunData) -> int:
    return min(_AT_AN_END, len(_numbers(run)) // 2)


def _numbers(run: RunData) -> list[int]:
    return sorted(int(name.removeprefix(_LAYER)) for name in run.curves if name.startswith(_LAYER))


def _every_layer(data: ReportData) -> str:
    numbers = sorted({number for run in data.runs for number in _numbers(run)})
    if not numbers:
        return ""
    head: Row = ["layer", *(Cell(run.name, swatch=run_colour(index)) for index, run in enumerate(data.runs))]
    rows: list[Row] = []
    for number in reversed(numbers):  # the highest above, as one thinks of them
        ends = [run.curves.get(f"{_LAYER}{number}", ()) for run in data.runs]
        rows.append([str(number), *(percent(curve[-1][1], 2) if curve else NONE for curve in ends)])
    return details("Every layer at the end of the runs, from the highest to the lowest", table(head, rows))
