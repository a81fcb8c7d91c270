"""How the PNG charts look, and how they are written."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ground.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, GRID = "#1c1e21", "#5f646b", "#ebe8e1"


def grid(charts: int) -> tuple[Figure, list[Axes]]:
    """A figure with places for this many charts."""
    columns = min(charts, 3 if charts in (3, 5, 6) or charts > 6 else 2)
    rows = -(-charts // columns)
    figure = new_figure(max(4.4 * columns, 7), 3.3 * rows + 0.9)
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for place in places[charts:]:
        place.set_axis_off()
    return figure, places[:charts]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # without pyplot there is no global state and no window system

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """Title, labels and quiet axes."""
    axes.set_title(title, loc="left", fontsize=10.5, color=INK)
    axes.set_ylabel(y_label, fontsize=9, color=SOFT)
    axes.set_xlabel(x_label, fontsize=9, color=SOFT)
    axes.tick_params(colors=SOFT, labelsize=8.5, length=3)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color("#cfccc4")


def title_and_legend(figure: Figure, title: str, handles: Mapping[Any, Any], columns: int) -> None:
    """Title above, legend (label -> what is drawn) below."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, color=INK)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower left",
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as PNG, atomically, and return its path."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    write_atomic(path, buffer.getvalue())
    return path
