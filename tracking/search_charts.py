"""The charts of what a search found: all trials and the front, gap curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tracking.figures import count
from tracking.search_data import SearchData
from tracking.search_parts import TrialData
from tracking.search_plot import Level, Plot, Scale, Symbol, Trace, padded, token_unit
from tracking.search_text import chance, fine, knobs, labelled, spelled

_NEAR = 3.0
"""Half-width of the close-up, in standard deviations of a trial around the best recipe."""
_FAR = 1.2
"""Points this far beyond the finished ones, in units of their spread, are left to zooming out."""


def noise_of(data: SearchData, metric: str) -> float:
    """Standard deviation of one trial of the metric; 0 when nothing was fitted."""
    return next((fit.noise for fit in data.fits if fit.metric == metric), 0.0)


def front_charts(data: SearchData) -> list[Plot]:
    """Both metrics of every trial, the front, the tolerance and the base; and once more around the best recipe."""
    whole = _front_chart(data)
    close = _around_best(data, whole) if whole else None
    return [plot for plot in (whole, close) if plot]


def _front_chart(data: SearchData) -> Plot | None:
    seen = [trial for trial in data.trials if trial.domain is not None and trial.general is not None]
    if not seen:
        return None
    best = data.best.trial if data.best else None
    ended = [trial for trial in seen if trial.state == "finished" and trial.number != best]
    begun = [trial for trial in seen if trial.state != "finished"]
    picked = [trial for trial in seen if trial.number == best]
    noise = noise_of(data, data.domain_metric), noise_of(data, data.general_metric)
    traces = []
    if begun:
        traces.append(_points("unfinished trial, at its last rung", "soft", begun, symbol="circle-open", faint=True))
    if ended:
        traces.append(_points("finished trial \u00b1 one standard deviation of seeds", "run-0", ended, noise=noise))
    if data.front:
        traces.append(
            Trace(
                name="front, noise taken out, \u00b1 one standard deviation",
                kind="line",
                colour="run-2",
                x=tuple(point.domain.mean for point in data.front),
                y=tuple(point.general.mean for point in data.front),
                x_errors=tuple(point.domain.sd for point in data.front),
                y_errors=tuple(point.general.sd for point in data.front),
                text=tuple(
                    f"front: trial {p.trial}<br>{spelled(data.domain_metric)} {fine(p.domain.mean)} \u00b1 "
                    f"{fine(p.domain.sd)}<br>"
                    f"{spelled(data.general_metric)} {fine(p.general.mean)} \u00b1 {fine(p.general.sd)}<br>"
                    f"on the front with probability {chance(p.probability)}"
                    for p in data.front
                ),
                symbol="square",
                size=6,
            )
        )
    if picked:
        traces.append(_points("best recipe", "run-1", picked, symbol="star", noise=noise, size=14))
    main = [trial for trial in seen if trial.state == "finished"] or seen
    x, x_out = _window(
        Scale(label=labelled(data, data.domain_metric)), main, seen, "domain", data.base_domain, noise[0]
    )
    y, y_out = _window(
        Scale(label=labelled(data, data.general_metric)), main, seen, "general", data.base_general, noise[1]
    )
    beyond = x.high is not None and data.base_domain > x.high
    where = f"base {fine(data.base_general)}, at {fine(data.base_domain)} \u2192" if beyond else "base"
    levels = [Level(axis="y", at=data.base_general, text=where)]
    if data.kind == "tolerance":
        levels.append(Level(axis="y", at=data.limit, text=f"tolerance {fine(data.limit)}", colour="alarm"))
    if not beyond:
        traces.append(
            Trace(
                name="base model", kind="points", colour="ink", x=(data.base_domain,), y=(data.base_general,),
                text=("base model",), symbol="diamond", size=10,
            )
        )  # fmt: skip
    outside = len({trial.number for trial in (*x_out, *y_out)})
    left = f" {outside} unfinished trials lie outside the chart." if outside else ""
    return Plot(
        anchor="front",
        title="Every trial in both metrics, and the Pareto front",
        reading=(
            "Down and left is better: no other recipe is expected to beat one on the green line in both metrics "
            "at once."
        )
        + left,
        x=x,
        y=y,
        traces=tuple(traces),
        levels=tuple(levels),
        wide=True,
    )


def _around_best(data: SearchData, whole: Plot) -> Plot | None:
    """The same within a few standard deviations of the best recipe; None when that shows nothing more."""
    best = data.best
    if best is None or whole.x.high is None or whole.x.low is None:
        return None
    reach = [
        _NEAR * math.hypot(found.sd, noise_of(data, metric))
        for found, metric in ((best.domain, data.domain_metric), (best.general, data.general_metric))
    ]
    ends = [trial for trial in data.finished if trial.domain is not None and trial.general is not None]
    near = [
        (trial.domain, trial.general)
        for trial in ends
        if abs((trial.domain or 0) - best.domain.mean) < reach[0]
        and abs((trial.general or 0) - best.general.mean) < reach[1]
    ]
    if len(near) < 3 or 2 * reach[0] > 0.6 * (whole.x.high - whole.x.low):
        return None
    x = replace(whole.x, low=best.domain.mean - reach[0], high=best.domain.mean + reach[0])
    y = replace(whole.y, low=best.general.mean - reach[1], high=best.general.mean + reach[1])
    return replace(
        whole,
        anchor="front-near",
        title="The same around the best recipe",
        reading=f"{len(near)} finished trials lie here: where their bars overlap, seeds alone could have swapped them.",
        x=x,
        y=y,
        levels=tuple(level for level in whole.levels if (y.low or 0) <= level.at <= (y.high or 0)),
    )


def gap_charts(data: SearchData) -> list[Plot]:
    """Both metrics over the tokens of the best and the worst finished trial."""
    size, unit = token_unit(
        max((tokens for found in data.curves.values() for c in found.values() for tokens, _ in c), default=1)
    )
    bases = ((data.domain_metric, data.base_domain), (data.general_metric, data.base_general))
    plots = []
    for metric, base in bases:
        traces = []
        for number, found in data.curves.items():
            curve = found.get(metric, ())
            first = data.best is not None and number == data.best.trial
            if curve:
                traces.append(
                    Trace(
                        name=f"{'best' if first else 'worst'} finished trial, {number}",
                        kind="line",
                        colour="run-1" if first else "run-5",
                        x=tuple(tokens / size for tokens, _ in curve),
                        y=tuple(value for _, value in curve),
                        text=tuple(f"trial {number}: {fine(v)} after {count(t)} tokens" for t, v in curve),
                        symbol="circle" if first else "square",
                        size=5,
                    )
                )
        if not traces:
            continue
        levels = [Level(axis="y", at=base, text=f"base {fine(base)}")]
        if metric == data.general_metric and data.kind == "tolerance":
            levels.append(Level(axis="y", at=data.limit, text=f"tolerance {fine(data.limit)}", colour="alarm"))
        values = [level.at for level in levels] + [value for trace in traces for value in trace.y]
        plots.append(
            Plot(
                anchor=f"gap-{metric}",
                title=spelled(metric),
                reading="Above the base a run has lost ground; a rise that comes back is the stability gap.",
                x=Scale(label=f"tokens trained{unit}", low=0.0),
                y=padded(Scale(label=labelled(data, metric)), values),
                traces=tuple(traces),
                levels=tuple(levels),
            )
        )
    return plots


def _points(
    name: str,
    colour: str,
    trials: Sequence[TrialData],
    *,
    symbol: Symbol = "circle",
    noise: tuple[float, float] = (0.0, 0.0),
    faint: bool = False,
    size: float = 7,
) -> Trace:
    return Trace(
        name=name,
        kind="points",
        colour=colour,
        x=tuple(trial.domain or 0.0 for trial in trials),
        y=tuple(trial.general or 0.0 for trial in trials),
        x_errors=(noise[0],) * len(trials) if noise[0] else (),
        y_errors=(noise[1],) * len(trials) if noise[1] else (),
        text=tuple(
            f"trial {t.number}, {t.state} at {count(t.tokens)} tokens<br>{knobs(t.knobs)}<br>domain "
            f"{fine(t.domain)}, general {fine(t.general)}"
            for t in trials
        ),
        symbol=symbol,
        faint=faint,
        size=size,
    )


def _window(
    scale: Scale, main: Sequence[TrialData], seen: Sequence[TrialData], field: str, base: float, noise: float
) -> tuple[Scale, list[TrialData]]:
    """The scale around the finished trials, with the base and others that are not far off, and who is left out."""
    values = [float(getattr(trial, field)) for trial in main]
    low, high = min(values) - noise, max(values) + noise
    room = _FAR * max(high - low, 4 * noise, 1e-3 * abs(high))
    near = [v for v in (base, *(float(getattr(trial, field)) for trial in seen)) if low - room <= v <= high + room]
    shown = padded(scale, [low, high, *near])
    out = [trial for trial in seen if not (shown.low or 0) <= getattr(trial, field) <= (shown.high or 0)]
    return shown, out
