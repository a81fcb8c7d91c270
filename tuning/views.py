"""What the beliefs say over the knobs, for the report: maps of two knobs, curves over the share, the critical share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tracking.search_parts import Axis, CriticalShare, Estimate, Knobs, MapData, ShareCurve
from tuning.beliefs import Beliefs
from tuning.laws import Stack
from tuning.objective import Scalar
from tuning.space import Point, Space, infeasible

Floats = NDArray[np.float64]
Knob = Literal["subset_tokens", "epochs", "share", "learning_rate"]

_TICKS = 25
"""Cells along an axis of a map: more would be smaller than the law's own width of an optimum."""
_SHARES = 61
_FINE = 361
"""Shares looked at for the critical one: its third digit is not meant."""
_CONFIDENT = 1.645
"""Standard deviations of a one-sided 95 % bound."""


def knobs_of(point: Point) -> Knobs:
    """A point as the report holds it."""
    return Knobs(
        subset_tokens=point.subset_tokens,
        epochs=float(point.epochs),
        share=float(point.share),
        learning_rate=None if point.learning_rate is None else float(point.learning_rate),
    )


def estimates(stack: Stack, beliefs: Beliefs, points: Sequence[Point]) -> list[Estimate]:
    """The metric at the end of each point's run, noise taken out."""
    mean, sd = stack.predict(beliefs.inputs(points)).moments()
    return [Estimate(mean=float(m), sd=float(s)) for m, s in zip(mean, sd, strict=True)]


def maps(beliefs: Beliefs, scalar: Scalar | None, best: Point) -> tuple[MapData, ...]:
    """Maps through the best recipe: epochs and share; subset and epochs where cheaper runs are allowed (else S = run / E and the
    two are one knob); rate and share where the rate is searched. Knobs whose range is one value have no map.

    Args:
        scalar: the objective; None maps the domain metric.
    """
    space = beliefs.space
    epochs, share = _axis("epochs", space.epochs, True), _axis("share", space.share, False)
    pairs = [(share, epochs)]
    if space.cheapest < 1:
        run = space.limits.run_tokens
        subset = (space.cheapest * run / space.epochs[1], min(run / space.epochs[0], space.limits.domain_tokens))
        pairs.insert(0, (_axis("subset_tokens", subset, True), epochs))
    if space.learning_rate:
        pairs.append((share, _axis("learning_rate", space.learning_rate, True)))
    return tuple(_map(beliefs, scalar, best, x, y) for x, y in pairs if len(x.values) > 1 and len(y.values) > 1)


def share_curves(
    beliefs: Beliefs, best: Point, metrics: Sequence[tuple[str, Stack]]
) -> tuple[tuple[ShareCurve, ...], list[Point]]:
    """Both metrics over the share, and the points they were taken at; no curve when fewer than three shares are possible."""
    points = _over_share(beliefs.space, best, _SHARES)
    if len(points) < 3:
        return (), points
    return tuple(_share_curve(beliefs, best, points, metric, stack) for metric, stack in metrics), points


def critical_share(beliefs: Beliefs, best: Point, limit: float) -> CriticalShare | None:
    """The largest share whose expected general metric stays within ``limit``; None when no share is possible."""
    points = _over_share(beliefs.space, best, _FINE)
    if not points:
        return None
    mean, sd = beliefs.general.predict(beliefs.inputs(points)).moments()
    shares = np.array([point.share for point in points])
    within, sure = shares[mean <= limit], shares[mean + _CONFIDENT * sd <= limit]
    return CriticalShare(
        share=float(within.max()) if len(within) else None,
        cautious=float(sure.max()) if len(sure) else None,
        whole_range=bool(len(within) and within.max() == shares.max()),
    )


def _axis(name: Knob, ends: tuple[float, float], log: bool) -> Axis:
    if ends[1] <= ends[0] * (1 + 1e-9):
        return Axis(name=name, values=(ends[0],), log=log)
    values = np.geomspace(*ends, _TICKS) if log else np.linspace(*ends, _TICKS)
    return Axis(name=name, values=tuple(float(f"{value:.6g}") for value in values), log=log)


def _map(beliefs: Beliefs, scalar: Scalar | None, best: Point, x: Axis, y: Axis) -> MapData:
    wishes = [_with(beliefs.space, best, {x.name: a, y.name: b}) for b in y.values for a in x.values]
    at = [i for i, point in enumerate(wishes) if point is not None]
    points = [point for point in wishes if point is not None]
    if not points:
        empty = tuple((None,) * len(x.values) for _ in y.values)
        return MapData(x=x, y=y, value=empty, sd=empty, general=empty)
    inputs = beliefs.inputs(points)
    mean, sd = beliefs.domain.predict(inputs).moments()
    general = beliefs.general.predict(inputs).moments()
    value = mean if scalar is None else scalar.expected((mean, sd), general)

    def rows(values: Floats) -> tuple[tuple[float | None, ...], ...]:
        cells: list[float | None] = [None] * len(wishes)
        for index, number in zip(at, values, strict=True):
            cells[index] = float(f"{number:.6g}")
        width = len(x.values)
        return tuple(tuple(cells[i * width : (i + 1) * width]) for i in range(len(y.values)))

    return MapData(x=x, y=y, value=rows(value), sd=rows(sd), general=rows(general[0]))


def _with(space: Space, best: Point, changed: dict[Knob, float]) -> Point | None:
    """The best recipe with some knobs turned; its run keeps its tokens unless the subset is turned. None: not possible."""
    length = space.limits.sequence_length
    epochs = changed.get("epochs", best.epochs)
    tokens = changed["subset_tokens"] * epochs if "subset_tokens" in changed else best.tokens
    subset = max(1, round(tokens / epochs / length)) * length
    rate = changed.get("learning_rate", best.learning_rate)
    point = Point(subset, tokens / subset, changed.get("share", best.share), rate)
    cheap = point.tokens < space.cheapest * space.limits.run_tokens * (1 - 1e-6)
    return None if cheap or infeasible(space, point) else point


def _over_share(space: Space, best: Point, count: int) -> list[Point]:
    wishes = (_with(space, best, {"share": float(share)}) for share in np.linspace(*space.share, count))
    return [point for point in wishes if point is not None]


def _share_curve(beliefs: Beliefs, best: Point, points: Sequence[Point], metric: str, stack: Stack) -> ShareCurve:
    at = beliefs.inputs(points)
    mean, sd = stack.predict(at).moments()
    law, control = (member.predict(at).moments()[0] for member in (stack.law, stack.control))
    ended = [t for t in beliefs.history.finished if np.isfinite(t.reports[-1].metrics.get(metric, np.nan))]
    trials: list[tuple[int, float, float, float]] = []
    if ended:
        own = stack.predict(beliefs.inputs([trial.point for trial in ended])).moments()[0]
        moved = [replace(best, share=trial.point.share) for trial in ended]
        there = stack.predict(beliefs.inputs(moved)).moments()[0]
        for i, trial in enumerate(ended):
            seen = float(trial.reports[-1].metrics[metric])
            trials.append((trial.number, float(trial.point.share), seen, seen - float(own[i]) + float(there[i])))
    return ShareCurve(
        metric=metric,
        shares=tuple(point.share for point in points),
        mean=_plain(mean),
        sd=_plain(sd),
        law=_plain(law),
        control=_plain(control),
        trials=tuple(trials),
    )


def _plain(values: Floats) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)
