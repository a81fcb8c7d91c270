"""The charts over the knobs of a search: maps of two of them, both metrics over the domain share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tracking.figures import count
from tracking.search_charts import noise_of
from tracking.search_data import SearchData
from tracking.search_parts import Axis, MapData, ShareCurve, TrialData
from tracking.search_plot import Heat, Level, Plot, Rows, Scale, Symbol, Trace, log_scale, padded
from tracking.search_text import epochs, fine, knobs, labelled, rate, share, signed, spelled

PAPER_SHARE = 0.82
"""Domain share of Guo et al. 2024."""
_COLOURED = 0.75
"""Part of a map's cells, from the best on, whose colours differ."""
_SURE = 1.96
"""Standard deviations to either side of a 95 % interval."""


def map_charts(data: SearchData) -> list[Plot]:
    """The expectation over two knobs each; finished trials where they are."""
    return [_map_chart(data, number, found) for number, found in enumerate(data.maps)]


def share_charts(data: SearchData) -> list[Plot]:
    """Both metrics over the domain share, with law, regression and trials."""
    return [_share_chart(data, curve) for curve in data.share_curves]


_NAMES = {
    "subset_tokens": "subset S, tokens",
    "epochs": "epochs E",
    "share": "domain share",
    "learning_rate": "peak learning rate",
}


def _map_chart(data: SearchData, number: int, found: MapData) -> Plot:
    x, y = found.x, found.y
    best = data.best
    assert best is not None
    fixed = [
        f"{words} {text}"
        for key, words, text in (
            ("share", "share", share(best.knobs.share)),
            ("epochs", "epochs", epochs(best.knobs.epochs)),
            ("learning_rate", "learning rate", rate(best.knobs.learning_rate)),
        )
        if key not in (x.name, y.name) and (key != "learning_rate" or best.knobs.learning_rate is not None)
    ]
    subset = "subset_tokens" in (x.name, y.name)
    if not subset:
        fixed.append(f"{count(best.knobs.tokens)} tokens a run")
    what = spelled(data.domain_metric) if data.kind == "pareto" else "objective"
    text = tuple(
        tuple(
            _cell(data, x, y, a, b, value, general, sd)
            for a, value, general, sd in zip(x.values, row, generals, sds, strict=True)
        )
        for b, row, generals, sds in zip(y.values, found.value, found.general, found.sd, strict=True)
    )
    ends = [trial for trial in data.finished if trial.number != best.trial]
    traces = [_on_map("finished trial", "ink", ends, x, y, "circle-open", 7)] if ends else []
    traces += [_on_map("best recipe", "run-1", [t for t in data.trials if t.number == best.trial], x, y, "star", 15)]
    names = [_short(x.name), _short(y.name)]
    reading = (
        f"Stronger colour is a lower expected {what}, noise taken out; the rest is as in the best recipe "
        f"({', '.join(fixed)})."
    )
    reading += " The palest cells are that bad or worse; empty ones cannot be run."
    if data.kind == "tolerance":
        reading += " The red line is the edge of the tolerance."
    if y.name == "epochs" and not subset:
        reading += f" At a fixed run the subset is S = {count(best.knobs.tokens)} / E, so epochs stand for both."
    return Plot(
        anchor=f"map-{number}",
        title=f"{names[0].capitalize()} and {names[1]}",
        reading=reading,
        x=_map_scale(x),
        y=_map_scale(y),
        traces=tuple(traces),
        heat=Heat(
            x=_positions(x),
            y=_positions(y),
            values=found.value,
            text=text,
            label=f"{what}, {data.unit}" if data.unit else what,
            edge=found.general if data.kind == "tolerance" and _crosses(found.general, data.limit) else (),
            top=_top(found.value),
            edge_at=data.limit,
            edge_name="edge of the tolerance",
        ),
    )


def _short(name: str) -> str:
    return {"subset_tokens": "subset", "learning_rate": "learning rate", "share": "domain share"}.get(name, name)


def _top(rows: Rows) -> float | None:
    """Value from which on all is equally pale, so that the neighbourhood of the best has the colours."""
    values = sorted(value for row in rows for value in row if value is not None)
    return values[int(_COLOURED * (len(values) - 1))] if values else None


def _crosses(rows: Rows, level: float) -> bool:
    values = [value for row in rows for value in row if value is not None]
    return bool(values) and min(values) < level < max(values)


def _cell(
    data: SearchData, x: Axis, y: Axis, a: float, b: float, value: float | None, general: float | None, sd: float | None
) -> str:
    if value is None:
        return ""
    where = "<br>".join(_said(axis, v) for axis, v in ((x, a), (y, b)))
    if y.name == "epochs" and x.name != "subset_tokens" and data.best:
        where += f"<br>subset {count(data.best.knobs.tokens / b)} tokens"
    return f"{where}<br>expected {fine(value)} (\u00b1 {fine(sd)})<br>general {fine(general)}"


def _said(axis: Axis, value: float) -> str:
    if axis.name == "subset_tokens":
        return f"subset {count(value)} tokens"
    if axis.name == "learning_rate":
        return f"rate {rate(value)}"
    return f"{epochs(value)} epochs" if axis.name == "epochs" else f"share {share(value)}"


def _positions(axis: Axis) -> tuple[float, ...]:
    return tuple(math.log10(value) for value in axis.values) if axis.log else axis.values


def _map_scale(axis: Axis) -> Scale:
    at = _positions(axis)
    half = (at[1] - at[0]) / 2
    label = _NAMES[axis.name]
    ends = (axis.values[0], axis.values[-1])
    scale = log_scale(label, ends, tokens=axis.name == "subset_tokens") if axis.log else Scale(label=label)
    return Scale(
        label=label + (", log scale" if axis.log else ""), ticks=scale.ticks, low=at[0] - half, high=at[-1] + half
    )


def _on_map(
    name: str, colour: str, trials: Sequence[TrialData], x: Axis, y: Axis, symbol: Symbol, size: float
) -> Trace:
    def place(axis: Axis, trial: TrialData) -> float:
        value = float(getattr(trial.knobs, axis.name) or axis.values[0])
        return math.log10(value) if axis.log else value

    return Trace(
        name=name,
        kind="points",
        colour=colour,
        x=tuple(place(x, trial) for trial in trials),
        y=tuple(place(y, trial) for trial in trials),
        text=tuple(
            f"trial {t.number}<br>{knobs(t.knobs)}<br>domain {fine(t.domain)}, general {fine(t.general)}"
            for t in trials
        ),
        symbol=symbol,
        size=size,
    )


def _share_chart(data: SearchData, curve: ShareCurve) -> Plot:
    upper = tuple(m + _SURE * s for m, s in zip(curve.mean, curve.sd, strict=True))
    lower = tuple(m - _SURE * s for m, s in zip(curve.mean, curve.sd, strict=True))
    fit = next((fit for fit in data.fits if fit.metric == curve.metric), None)
    weight = fit.weight if fit else 0.0
    used = f"the law has weight {weight:.2f}" if weight else "the law is not used"
    traces = [
        Trace(name="95 % band", kind="band", colour="run-0", x=curve.shares, y=upper, low=lower),
        Trace(
            name="law alone",
            kind="line",
            colour="run-3",
            x=curve.shares,
            y=curve.law,
            dash=True,
        ),
        Trace(
            name="regression alone",
            kind="line",
            colour="run-4",
            x=curve.shares,
            y=curve.control,
            dash=True,
        ),
        Trace(
            name="fit used",
            kind="line",
            colour="run-0",
            x=curve.shares,
            y=curve.mean,
            text=tuple(
                f"share {share(s)}: {fine(m)} \u00b1 {fine(e)}"
                for s, m, e in zip(curve.shares, curve.mean, curve.sd, strict=True)
            ),
            size=0,
        ),
    ]
    if curve.trials:
        noise = noise_of(data, curve.metric)
        traces.append(
            Trace(
                name="finished trial, moved along the fit",
                kind="points",
                colour="ink",
                x=tuple(row[1] for row in curve.trials),
                y=tuple(row[3] for row in curve.trials),
                y_errors=(noise,) * len(curve.trials),
                text=tuple(
                    f"trial {n}, share {share(s)}<br>observed {fine(seen)}, moved by {signed(moved - seen, 4)}"
                    for n, s, seen, moved in curve.trials
                ),
                symbol="circle-open",
                size=6,
            )
        )
    levels = [Level(axis="x", at=PAPER_SHARE, text="Guo et al. 2024: 0.82")]
    critical = data.critical
    if critical and critical.share is not None:
        beyond = " or more" if critical.whole_range else ""
        levels.append(
            Level(
                axis="x", at=critical.share, text=f"critical ratio (CMR): {critical.share:.2f}{beyond}", colour="run-2"
            )
        )
    if data.best:
        levels.append(
            Level(axis="x", at=data.best.knobs.share, text=f"best: {share(data.best.knobs.share)}", colour="run-1")
        )
    if curve.metric == data.general_metric and data.kind == "tolerance":
        levels.append(Level(axis="y", at=data.limit, text=f"tolerance {fine(data.limit)}", colour="alarm", left=True))
    shown = [*curve.mean, *upper, *lower, *(row[3] for row in curve.trials)]
    if curve.metric == data.general_metric and data.kind == "tolerance":
        shown.append(data.limit)
    ends = (curve.shares[0], curve.shares[-1])
    return Plot(
        anchor=f"share-{curve.metric}",
        title=f"{spelled(curve.metric)}: {used}",
        reading=(
            "The blue line is what the search believes at the best recipe\u2019s other knobs; each circle is a "
            "finished trial, "
            "moved by the fit to those knobs, with the standard deviation of seeds."
        ),
        x=padded(Scale(label="domain share"), ends, 0.02),
        y=padded(Scale(label=labelled(data, curve.metric)), shown),
        traces=tuple(traces),
        levels=tuple(level for level in levels if level.axis == "y" or ends[0] - 0.02 <= level.at <= ends[1] + 0.02),
    )
