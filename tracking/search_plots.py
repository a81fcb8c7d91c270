"""Four charts of a search's report as PNG files, for papers and MLflow's artifact view."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracking.plot_style import GRID, INK, SOFT, dress, grid, save, title_and_legend
from tracking.search_charts import front_charts
from tracking.search_course_charts import budget_charts
from tracking.search_data import SearchData
from tracking.search_knob_charts import map_charts, share_charts
from tracking.search_plot import Heat, Level, Plot, Scale, Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]

_COLOURS = {
    "run-0": "#1d5c96", "run-1": "#b8500f", "run-2": "#1a7f5a", "run-3": "#8b4a94", "run-4": "#8a6d00", "run-5": "#52575e",
    "source-0": "#0f6f76", "source-1": "#a8486a", "source-2": "#6557a8", "source-3": "#7a7420", "source-4": "#3e6fb0",
    "source-5": "#8a5a33", "alarm": "#c0202f", "soft": SOFT, "ink": INK,
}  # fmt: skip
_HEAT = ("#0d4a52", "#2c7f7c", "#6fb1a3", "#b9d6c6", "#e9e1cf")
_MARKS = {"circle": "o", "circle-open": "o", "star": "*", "x": "x", "diamond": "D", "square": "s"}


def write_search_plots(data: SearchData, folder: Path) -> list[Path]:
    """Write ``front.png``, ``map.png``, ``share.png`` and ``budget.png``, as far as the data hold them.

    Raises:
        OSError: the folder cannot be written.
    """
    pictures = (
        ("front.png", "Trials and Pareto front", front_charts(data)),
        ("map.png", "Expectation over the knobs", map_charts(data)),
        ("share.png", "Both metrics over the domain share", share_charts(data)),
        ("budget.png", "Budget and best recipe so far", budget_charts(data)),
    )
    return [_write(f"{data.title}: {title}", plots, folder / name) for name, title, plots in pictures if plots]


def _write(title: str, plots: list[Plot], path: Path) -> Path:
    figure, places = grid(len(plots))
    if len(plots) == 1:
        figure.set_size_inches(7.6, 5.2)
    handles: dict[str, Any] = {}
    for axes, plot in zip(places, plots, strict=True):
        if plot.heat:
            _heat(axes, plot.heat)
        below = np.zeros(len(plot.traces[0].x) if plot.traces else 0)  # bars of one chart share their places and stack
        for trace in plot.traces:
            drawn = _trace(axes, trace, below)
            below = below + np.array(trace.y) if trace.kind == "bars" else below
            if trace.key:
                handles.setdefault(trace.name, drawn)
        _levels(axes, plot)
        dress(axes, plot.title, plot.x.label, plot.y.label)
        _scale(axes, plot.x, "x")
        _scale(axes, plot.y, "y")
        if not plot.heat:
            axes.grid(color=GRID, linewidth=0.8)
    title_and_legend(figure, title, handles, 2 if len(plots) == 1 else 3)
    return save(figure, path)


def _trace(axes: Axes, trace: Trace, below: Floats) -> Any:
    colour = _COLOURS[trace.colour]
    if trace.kind == "band":
        return axes.fill_between(trace.x, trace.low, trace.y, color=colour, alpha=0.16, linewidth=0)
    if trace.kind == "bars":
        return axes.bar(trace.x, trace.y, bottom=below, color=colour, width=0.88)
    if trace.x_errors or trace.y_errors:
        axes.errorbar(
            trace.x, trace.y, yerr=trace.y_errors or None, xerr=trace.x_errors or None, fmt="none", ecolor=colour,
            alpha=0.45, elinewidth=0.9,
        )  # fmt: skip
    lines = trace.kind == "line"
    hollow = trace.symbol.endswith("open")
    (line,) = axes.plot(
        trace.x,
        trace.y,
        color=colour,
        linestyle=("--" if trace.dash else "-") if lines else "none",
        linewidth=1.1 if trace.dash else 1.8,
        marker=_MARKS[trace.symbol] if trace.size and not trace.dash else None,
        markersize=0.72 * trace.size,
        markerfacecolor="none" if hollow else colour,
        alpha=0.55 if trace.faint else 1,
    )
    return line


def _heat(axes: Axes, heat: Heat) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("heat", _HEAT)
    values = np.array([[np.nan if v is None else v for v in row] for row in heat.values], dtype=float)
    drawn = axes.pcolormesh(heat.x, heat.y, values, cmap=colours, shading="nearest", vmax=heat.top)
    bar = axes.figure.colorbar(drawn, ax=axes, pad=0.02)
    bar.set_label(heat.label, fontsize=9, color=SOFT)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=SOFT, labelsize=8.5)
    if heat.edge:
        edge = np.array([[np.nan if v is None else v for v in row] for row in heat.edge], dtype=float)
        axes.contour(heat.x, heat.y, edge, levels=[heat.edge_at], colors=_COLOURS["alarm"], linewidths=1.4)


def _levels(axes: Axes, plot: Plot) -> None:
    across = 0
    for level in plot.levels:
        draw = axes.axvline if level.axis == "x" else axes.axhline
        draw(level.at, color=_COLOURS[level.colour], linewidth=1.1, linestyle=(0, (5, 3)), zorder=1)
        _label(axes, plot, level, across)
        across += level.axis == "x"


def _label(axes: Axes, plot: Plot, level: Level, across: int) -> None:
    """The text of a line: of vertical ones below each other, of the lower of two horizontal ones below it."""
    if level.axis == "x":
        left = plot.x.low is None or plot.x.high is None or level.at <= (plot.x.low + plot.x.high) / 2
        at, frame, high = (level.at, 1 - 0.075 * across), ("data", "axes fraction"), False
        aside = (3 if left else -3, -2)
    else:
        flat = [other.at for other in plot.levels if other.axis == "y"]
        left, high = level.left, len(flat) < 2 or level.at > min(flat)
        at, frame = (0.01 if left else 0.99, level.at), ("axes fraction", "data")
        aside = (0, 2 if high else -3)
    axes.annotate(
        level.text,
        at,
        xycoords=frame,
        xytext=aside,
        textcoords="offset points",
        ha="left" if left else "right",
        va="bottom" if high else "top",
        fontsize=8,
        color=_COLOURS[level.colour],
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
    )


def _scale(axes: Axes, scale: Scale, which: str) -> None:
    if scale.low is not None:
        axes.set(**{f"{which}lim": (scale.low, scale.high)})
    if scale.ticks:
        axes.set(
            **{f"{which}ticks": [at for at, _ in scale.ticks], f"{which}ticklabels": [text for _, text in scale.ticks]}
        )
