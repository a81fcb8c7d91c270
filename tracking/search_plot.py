"""One chart of a search's report as plain values, for ``assets/search.js`` and for the PNG files alike.

Positions are linear: a logarithmic axis holds decimal logarithms and brings its own ticks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from tracking.figures import count

Floats = tuple[float, ...]
Rows = tuple[tuple[float | None, ...], ...]
Symbol = Literal["circle", "circle-open", "star", "x", "diamond", "square"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """An axis."""

    label: str
    low: float | None = None
    """Ends of what is shown at first; None: what the data need."""
    high: float | None = None
    ticks: tuple[tuple[float, str], ...] = ()
    """(position, text); empty: chosen by the renderer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Things of one kind. ``colour`` names a variable of the style sheet."""

    name: str
    kind: Literal["points", "line", "band", "bars"]
    colour: str
    x: Floats
    y: Floats
    low: Floats = ()
    """Lower edge of a band, whose upper edge is ``y``."""
    x_errors: Floats = ()
    y_errors: Floats = ()
    """Half-widths."""
    text: tuple[str, ...] = ()
    """What hovering says, one for each point; empty: nothing."""
    symbol: Symbol = "circle"
    size: float = 7
    dash: bool = False
    faint: bool = False
    key: bool = True
    """Whether it stands in the key of the chart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A line across the chart, with its meaning written on it."""

    axis: Literal["x", "y"]
    at: float
    text: str
    colour: str = "soft"
    left: bool = False
    """A horizontal line's text stands at its left end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """A map under the traces: rows follow y, the best value is the strongest colour (lower is better)."""

    x: Floats
    y: Floats
    values: Rows
    text: tuple[tuple[str, ...], ...]
    label: str
    top: float | None = None
    """Value from which on the colour stays the weakest; None: the largest."""
    edge: Rows = ()
    """A second value, of which one contour is drawn at ``edge_at``; empty: none."""
    edge_at: float = 0.0
    edge_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One chart."""

    anchor: str
    title: str
    reading: str
    """One sentence: how to read it."""
    x: Scale
    y: Scale
    traces: tuple[Trace, ...] = ()
    levels: tuple[Level, ...] = ()
    heat: Heat | None = None
    wide: bool = False
    """Takes the whole width of the page."""


def to_json(plot: Plot) -> dict[str, Any]:
    """The chart as JSON; values keep six digits."""
    rounded: dict[str, Any] = _rounded(asdict(plot))
    return rounded


def token_unit(most: float) -> tuple[float, str]:
    """The unit of an axis up to so many tokens: (tokens in one, what to add to the label)."""
    for size, name in ((1e9, " (billions)"), (1e6, " (millions)"), (1e3, " (thousands)")):
        if most >= size:
            return size, name
    return 1.0, ""


def log_scale(label: str, ends: tuple[float, float], tokens: bool = False) -> Scale:
    """An axis of decimal logarithms with ticks at 1, 2 and 5 times the powers of ten, or at powers of two below 100.

    Args:
        tokens: print ticks as counts of tokens.
    """
    low, high = ends
    if low >= 1 and high <= 128 and not tokens:
        marks = [2.0**k for k in range(8)]
    else:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        marks = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    inside = [mark for mark in marks if low * 0.999 <= mark <= high * 1.001]
    text = [count(mark) if tokens else f"{mark:g}" for mark in inside]
    if not tokens and low < 0.01:
        text = [f"{mark:.0e}".replace("e-0", "e\u2212") for mark in inside]
    return Scale(label=label, ticks=tuple((math.log10(mark), words) for mark, words in zip(inside, text, strict=True)))


def padded(scale: Scale, values: Sequence[float], margin: float = 0.06) -> Scale:
    """The scale showing all the values and a margin."""
    if not values:
        return scale
    low, high = min(values), max(values)
    room = margin * (high - low) or max(abs(high), 1.0) * 0.01
    return replace(scale, low=low - room, high=high + room)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
