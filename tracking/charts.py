"""What the report's charts draw, as plain JSON for ``assets/report.js``; the PNG plots draw the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

from tracking.curation import Scores, SourceFunnel
from tracking.figures import count
from tracking.findings import base_loss, mean_base
from tracking.report_alarms import alarms_of
from tracking.report_data import Curve, ReportData, RunData, thin

LOSS_LABEL = "held-out loss, nats per token"
Unit = Literal["loss", "share", "fraction", "rate", "small", "plain"]
"""How values are printed: ``share`` and ``fraction`` in percent, of the whole and of anything else."""

_MEANS = 200
"""Points of a noisy curve that a chart shows; more would draw a solid band."""
_BARS = 90
"""Bars of a histogram; more are thinner than a phone can show."""
_TAIL = 0.001
"""Share of the tokens at either end of the scores that may lie outside a histogram, so that one odd document does not
squeeze the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line. ``colour`` is an index into the palette ``kind``; ``run`` hides it together with that run."""

    name: str
    kind: Literal["run", "source"]
    colour: int
    run: int | None
    points: Curve
    dashed: bool = False
    errors: tuple[float, ...] = ()
    """Half-widths of the error bars, one a point; empty: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that happened in a run, drawn on its line."""

    run: int
    tokens: int
    value: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One pair of axes over tokens seen."""

    anchor: str
    title: str
    y_label: str
    series: tuple[Series, ...]
    base: float | None = None
    """A dashed level line: the base model, or what ``base_label`` says."""
    base_label: str = "base"
    marks: tuple[Mark, ...] = ()
    unit: Unit = "plain"
    from_zero: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Tokens over quality score."""

    anchor: str
    title: str
    note: str
    x_label: str
    width: float
    """Of a bar, in units of the score."""
    bars: tuple[tuple[float, int, int, float], ...]
    """(low end, documents, tokens, share of the tokens that score better than the bar's high end)."""


def score_histograms(sources: Sequence[SourceFunnel], label: str) -> list[Histogram]:
    """Quality scores of each domain source, drawn over one range so that sources compare."""
    scored = [(source, source.scores) for source in sources if source.role == "domain" and source.scores is not None]
    if not scored:
        return []
    lows, highs = ([scores.quantile(share) for _, scores in scored] for share in (_TAIL, 1 - _TAIL))
    return [_histogram(source.name, scores, label, min(lows), max(highs)) for source, scores in scored]


def gap_charts(data: ReportData) -> tuple[list[Chart], list[Chart]]:
    """Held-out loss over tokens: the charts to read first (domain, mean of general), then one a general source."""
    domain = [name for name in data.measured() if name not in data.sources("general")]
    general = [name for name in data.measured() if name in data.sources("general")]
    leading = [_loss_chart(data, name, f"{name}, domain") for name in domain]
    each = [_loss_chart(data, name, name) for name in general]
    mean = _mean_chart(data, general) if len(general) > 1 else None
    if mean is None:
        leading, each = [*leading, *each], []
    else:
        leading.append(mean)
    return [chart for chart in leading if chart.series], [chart for chart in each if chart.series]


def share_charts(data: ReportData) -> list[Chart]:
    """Share of tokens seen so far by source, the planned share dotted; one chart for each run that mixes sources."""
    names = share_sources(data)
    charts = []
    for index, run in enumerate(data.runs):
        series: list[Series] = []
        for colour, source in enumerate(names):
            seen = run.curves.get(f"train/share/{source}", ())
            line = Series(name=source, kind="source", colour=colour, run=None, points=thin(seen))
            if seen:
                series.append(line)
            if seen and source in run.shares:
                level = run.shares[source]
                series.append(replace(line, points=((seen[0][0], level), (seen[-1][0], level)), dashed=True))
        if len({line.name for line in series}) > 1:
            charts.append(
                Chart(
                    anchor=f"share-{index}",
                    title=run.name,
                    y_label="share of tokens seen",
                    series=tuple(series),
                    unit="share",
                    from_zero=True,
                )
            )
    return charts


def training_charts(data: ReportData) -> list[Chart]:
    """Throughput first, then training loss, learning rate and gradient norm, as far as recorded."""
    known: tuple[tuple[str, str, str, Unit, bool], ...] = (
        ("train/tokens_per_second", "Throughput", "tokens per second", "rate", True),
        ("train/loss", "Training loss", "nats per token", "loss", False),
        ("train/learning_rate", "Learning rate", "per update", "small", True),
        ("train/gradient_norm", "Gradient norm", "before clipping", "plain", True),
    )
    charts = []
    for metric, title, label, unit, from_zero in known:
        recorded = [run.curves.get(metric, ()) for run in data.runs]
        together = 1 if unit == "small" else max(1, *(-(-len(curve) // _MEANS) for curve in recorded), 1)
        series = run_series(data, partial(_averaged, metric, together))
        if series:
            y_label = f"{label}, mean of {together} records" if together > 1 else label
            anchor = metric.replace("/", "-")
            chart = Chart(anchor=anchor, title=title, y_label=y_label, series=series, unit=unit, from_zero=from_zero)
            charts.append(replace(chart, marks=_alarm_marks(data, chart)) if metric == "train/loss" else chart)
    return charts


def recorded_curve(metric: str, run: RunData) -> Curve:
    """The run's curve of a metric; empty when there is none."""
    return run.curves.get(metric, ())


def run_series(data: ReportData, curve_of: Callable[[RunData], Curve]) -> tuple[Series, ...]:
    """One line a run that has the curve, thinned."""
    found = ((index, run, thin(curve_of(run))) for index, run in enumerate(data.runs))
    return tuple(
        Series(name=run.name, kind="run", colour=index, run=index, points=points)
        for index, run, points in found
        if points
    )


def share_sources(data: ReportData) -> list[str]:
    """Every source that a plan or a run names, in the order of the funnel."""
    named = {source for run in data.runs for source in run.shares}
    named |= {m.removeprefix("train/share/") for run in data.runs for m in run.curves if m.startswith("train/share/")}
    ordered = [source.name for source in data.funnel if source.name in named]
    return ordered + sorted(named - set(ordered))


def token_unit(data: ReportData) -> tuple[int, str]:
    """The unit of the tokens axis: (tokens in one, its name)."""
    most = max((run.totals.tokens for run in data.runs), default=0)
    for size, name in ((10**9, "billions"), (10**6, "millions"), (10**3, "thousands")):
        if most >= size:
            return size, name
    return 1, "tokens"


def to_json(chart: Chart) -> dict[str, Any]:
    """The chart as JSON; values keep six digits, which no screen can tell from more."""
    value = asdict(chart)
    if chart.base is not None and not math.isfinite(chart.base):
        value["base"] = None
    for series in value["series"]:
        points = series.pop("points")
        series["x"] = [tokens for tokens, _ in points]
        series["y"] = [float(f"{y:.6g}") for _, y in points]
        series["errors"] = [float(f"{error:.6g}") for error in series["errors"]]
    return value


def _histogram(name: str, scores: Scores, label: str, low: float, high: float) -> Histogram:
    """One source between two scores; a few documents far off are told of, not drawn."""
    together = max(1, math.ceil((high - low) / scores.width / _BARS))
    width = together * scores.width
    merged: dict[int, list[int]] = {}
    better, outside = 0, 0
    for found in scores.bins:
        index = math.floor(found.low / width + 1e-9)
        if not low - width < found.low < high + width:
            outside += found.tokens
        bar = merged.setdefault(index, [0, 0, 0])
        better += found.tokens
        bar[0] += found.documents
        bar[1] += found.tokens
        bar[2] = better
    bars = tuple(
        (float(f"{index * width:.6g}"), documents, tokens, before / scores.tokens if scores.tokens else 0.0)
        for index, (documents, tokens, before) in merged.items()
        if low - width < index * width < high + width
    )
    note = f"{count(scores.tokens)} tokens: half below {scores.quantile(0.5):.2f}, 90% below {scores.quantile(0.9):.2f}"
    if outside:
        note += f"; {count(outside)} outside the chart"
    return Histogram(
        anchor=f"scores-{name}", title=name, note=note, x_label=f"{label}, lower is better", width=width, bars=bars
    )


def _loss_chart(data: ReportData, source: str, title: str) -> Chart:
    series = run_series(data, partial(recorded_curve, f"heldout/{source}/loss"))
    base = base_loss(data, source)
    return Chart(anchor=f"gap-{source}", title=title, y_label=LOSS_LABEL, series=series, base=base, unit="loss")


def _mean_chart(data: ReportData, sources: list[str]) -> Chart | None:
    """None when the sources of a run were not measured at the same tokens: then there is no mean to draw."""

    def mean(run: RunData) -> Curve:
        curves = [run.curves.get(f"heldout/{source}/loss", ()) for source in sources]
        if len({tuple(tokens for tokens, _ in curve) for curve in curves}) != 1:
            return ()
        return tuple((at[0][0], sum(y for _, y in at) / len(at)) for at in zip(*curves, strict=True))

    series = run_series(data, mean)
    if len(series) < len(data.runs):
        return None
    title = f"general, mean of {len(sources)} sources"
    base = mean_base(data, sources)
    return Chart(anchor="gap-general-mean", title=title, y_label=LOSS_LABEL, series=series, base=base, unit="loss")


def _alarm_marks(data: ReportData, chart: Chart) -> tuple[Mark, ...]:
    """The runs' alarms at their losses, or where there is none (not finite, left out) on the line."""
    marks = []
    for line in chart.series:
        run = data.runs[line.colour]
        losses = {tokens: loss for tokens, loss in run.curves.get("train/loss", ()) if math.isfinite(loss)}
        for alarm in alarms_of(run):
            nearest = min(line.points, key=lambda point: abs(point[0] - alarm.tokens))
            value = losses.get(alarm.tokens, nearest[1])
            text = f"{run.name}: {alarm.words} at {alarm.where}"
            marks.append(Mark(run=line.colour, tokens=alarm.tokens, value=value, text=text))
    return tuple(marks)


def _averaged(metric: str, together: int, run: RunData) -> Curve:
    """Means of ``together`` records each, at the last record's tokens."""
    finite = [point for point in run.curves.get(metric, ()) if math.isfinite(point[1])]
    parts = (finite[i : i + together] for i in range(0, len(finite), together))
    return tuple((part[-1][0], sum(value for _, value in part) / len(part)) for part in parts)
