"""The report's charts as PNG files, for README files, papers and MLflow's artifact view."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tracking.charts import Chart, gap_charts, share_charts, token_unit, training_charts
from tracking.corpus_plots import write_corpus_plots
from tracking.plot_style import GRID, INK, SOFT, dress, grid, save, title_and_legend
from tracking.report_data import ReportData
from tracking.report_layers import layer_charts
from tracking.report_tasks import task_charts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RUN_COLOURS = ("#1d5c96", "#b8500f", "#1a7f5a", "#8b4a94", "#8a6d00", "#52575e")
_SOURCE_COLOURS = ("#0f6f76", "#a8486a", "#6557a8", "#7a7420", "#3e6fb0", "#8a5a33")
_MARKERS = "osD^Xp"


def write_plots(data: ReportData, folder: Path) -> list[Path]:
    """Write ``gap-curves.png``, ``shares-seen.png``, ``throughput.png``, ``layers.png``, ``tasks.png``, ``corpus.png`` and
    ``scores.png``, as far as the data holds them.

    Raises:
        OSError: the folder cannot be written.
    """
    leading, each = gap_charts(data)
    throughput = [chart for chart in training_charts(data) if chart.anchor == "train-tokens_per_second"]
    pictures = (
        ("gap-curves.png", "Held-out loss against the base model", [*leading, *each]),
        ("shares-seen.png", "Share of tokens seen by source (dotted: plan)", share_charts(data)),
        ("throughput.png", "Throughput", throughput),
        ("layers.png", "How far the layers have moved from the base", layer_charts(data)),
        ("tasks.png", "Accuracy on tasks", task_charts(data)),
    )
    written = [_write(data, charts, title, folder / name) for name, title, charts in pictures if charts]
    return [*written, *write_corpus_plots(data.funnel, data.score_label, folder)]


def _write(data: ReportData, charts: list[Chart], title: str, path: Path) -> Path:
    figure, places = grid(len(charts))
    for place, chart in zip(places, charts, strict=True):
        _draw(place, chart, data)
    drawn = {str(line.get_label()): line for place in places for line in place.get_lines()}
    lines = {label: line for label, line in drawn.items() if not label.startswith("_")}
    title_and_legend(figure, title, lines, len(lines))
    return save(figure, path)


def _draw(axes: Axes, chart: Chart, data: ReportData) -> None:
    size, unit = token_unit(data)
    for line in chart.series:
        palette = _RUN_COLOURS if line.kind == "run" else _SOURCE_COLOURS
        few = len(line.points) <= 60 and not line.dashed and line.kind == "run"
        axes.plot(
            [tokens / size for tokens, _ in line.points],
            [value * (100 if chart.unit in ("share", "fraction") else 1) for _, value in line.points],
            color=INK if line.dashed else palette[line.colour % len(palette)],
            linewidth=1.0 if line.dashed else 2.2 if chart.unit == "share" else 1.6,
            linestyle=":" if line.dashed else "-",
            marker=_MARKERS[line.colour % len(_MARKERS)] if few else None,
            markersize=3.2,
            label=f"_{line.name}" if line.dashed else line.name,
        )
        if line.errors:
            x, y = [tokens / size for tokens, _ in line.points], [100 * value for _, value in line.points]
            bars = [100 * error for error in line.errors]
            axes.errorbar(x, y, bars, fmt="none", ecolor=palette[line.colour % len(palette)], elinewidth=0.8, capsize=2)
    if chart.base is not None:
        axes.axhline(
            chart.base * (100 if chart.unit == "fraction" else 1),
            color=SOFT,
            linewidth=1.1,
            linestyle=(0, (5, 3)),
            zorder=1,
            label=_level(chart),
        )
    if chart.anchor.startswith(("gap-", "update-")):
        _widen_start(axes, chart, size)
    elif chart.from_zero:
        axes.set_ylim(bottom=0)
    label = "tokens seen" if size == 1 else f"tokens seen ({unit})"
    if chart.anchor.startswith(("gap-", "update-")):
        label += ", square-root scale"
    percent = ", %" if chart.unit in ("share", "fraction") else ""
    dress(axes, chart.title, label, chart.y_label + percent)
    axes.grid(color=GRID, linewidth=0.8)


def _level(chart: Chart) -> str:
    """The label of the level line."""
    return "base model" if chart.base_label == "base" else chart.base_label


def _widen_start(axes: Axes, chart: Chart, size: int) -> None:
    """A square-root axis, as in the HTML report: the first steps, where a gap is, stay visible."""
    most = max((tokens for line in chart.series for tokens, _ in line.points), default=1) / size
    axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
    axes.set_xlim(0, most * 1.02)
    marks = [0.0]
    for mark in sorted(factor * 10.0**power for power in range(-9, 7) for factor in (1, 2, 5)):
        if mark <= most and (mark / most) ** 0.5 - (marks[-1] / most) ** 0.5 >= 0.11:
            marks.append(mark)
    axes.set_xticks(marks, [f"{mark:g}" for mark in marks])
    axes.minorticks_off()
