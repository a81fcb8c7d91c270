"""The charts of how a search went: its budget, what it would have handed over when, predictions against outcomes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from tracking.figures import count
from tracking.search_data import SearchData
from tracking.search_parts import JobData
from tracking.search_plot import Level, Plot, Scale, Trace, padded, token_unit
from tracking.search_text import fine, objective, spelled

_SURE = 1.96
_RUNGS = ("source-0", "source-1", "source-2", "source-3", "source-4", "source-5")


def budget_charts(data: SearchData) -> list[Plot]:
    """Tokens charged and reserved after each job, by rung, and the best recipe so far over tokens."""
    return [plot for plot in (_spending(data), _best_so_far(data)) if plot]


def prediction_charts(data: SearchData) -> list[Plot]:
    """One a metric: what came over what was foretold."""
    plots = []
    for metric in (data.domain_metric, data.general_metric):
        rows = [(p, p.outcome) for p in data.predictions if p.metric == metric and p.outcome is not None]
        if not rows:
            continue
        ends = [value for p, outcome in rows for value in (p.mean, outcome)]
        low, high = min(ends), max(ends)
        plots.append(
            Plot(
                anchor=f"prediction-{metric}",
                title=spelled(metric),
                reading="On the diagonal the prediction was right; a bar (95 %) that does not touch it is a surprise.",
                x=padded(Scale(label="foretold before the job started"), ends),
                y=padded(Scale(label="reported at its end"), ends),
                traces=(
                    Trace(name="equal", kind="line", colour="soft", x=(low, high), y=(low, high), dash=True, key=False),
                    Trace(
                        name="a job\u2019s end, \u00b1 95 %",
                        kind="points",
                        colour="run-0",
                        x=tuple(p.mean for p, _ in rows),
                        y=tuple(outcome for _, outcome in rows),
                        x_errors=tuple(_SURE * p.sd for p, _ in rows),
                        text=tuple(
                            f"job {p.job}, trial {p.trial}<br>foretold {fine(p.mean)} \u00b1 {fine(p.sd)}, came "
                            f"{fine(outcome)}<br>"
                            f"law {fine(p.law)}, regression {fine(p.control)}"
                            for p, outcome in rows
                        ),
                        size=6,
                    ),
                ),
            )
        )
    return plots


def _spending(data: SearchData) -> Plot | None:
    """Bars that grow: one for each job, everything charged up to it, by rung."""
    if not data.jobs:
        return None
    size, unit = token_unit(data.budget)
    numbers = tuple(float(job.number) for job in data.jobs)
    stacks: list[tuple[str, str, list[float]]] = []
    for rung, part in enumerate(data.rungs):
        before = f"{100 * data.rungs[rung - 1]:g}" if rung else "0"
        stacks.append(
            (
                f"from {before} to {100 * part:g} % of a run",
                _RUNGS[rung % 6],
                _cumulated(job.settled * (job.rung == rung) for job in data.jobs),
            )
        )
    stacks.append(("trained twice after a crash", "alarm", _cumulated(job.redone for job in data.jobs)))
    stacks.append(("reserved for jobs in flight", "soft", _cumulated(job.reserved for job in data.jobs)))
    heights = [sum(stack[2][i] for stack in stacks) for i in range(len(numbers))]
    traces = [
        Trace(
            name=name,
            kind="bars",
            colour=colour,
            x=numbers,
            y=tuple(value / size for value in values),
            text=tuple(
                f"after job {job.number} (trial {job.trial}, {job.state})<br>{name}: {count(value)}<br>in all "
                f"{count(height)} of {count(data.budget)} tokens"
                for job, value, height in zip(data.jobs, values, heights, strict=True)
            ),
        )
        for name, colour, values in stacks
        if any(values)
    ]
    return Plot(
        anchor="spending",
        title="Budget over the jobs",
        reading=(
            "Each bar is everything charged or reserved up to a job, split by the part of the run it paid for; "
            "the line is "
            "the whole budget and is never passed."
        ),
        x=Scale(label="job, in the order of decisions"),
        y=Scale(label=f"tokens{unit}", low=0.0, high=1.08 * data.budget / size),
        traces=tuple(traces),
        levels=(Level(axis="y", at=data.budget / size, text=f"budget {count(data.budget)}", colour="alarm"),),
    )


def _cumulated(amounts: Iterable[float]) -> list[float]:
    return list(itertools.accumulate(amounts))


def _best_so_far(data: SearchData) -> Plot | None:
    if not data.picks:
        return None
    size, unit = token_unit(data.budget)
    spent = tuple(pick.spent / size for pick in data.picks)
    mean = tuple(pick.value.mean for pick in data.picks)
    upper = tuple(pick.value.mean + _SURE * pick.value.sd for pick in data.picks)
    lower = tuple(pick.value.mean - _SURE * pick.value.sd for pick in data.picks)
    values = [*upper, *lower, *(pick.hindsight for pick in data.picks)]
    return Plot(
        anchor="best-so-far",
        title="Best recipe so far",
        reading=(
            "The line is the expected objective of the recipe that would have been handed over then, with a 95 % "
            "band; the "
            "squares say what is thought of the same recipe now."
        ),
        x=Scale(label=f"tokens spent{unit}", low=0.0, high=1.02 * data.budget / size),
        y=padded(Scale(label=f"objective, {data.unit}" if data.unit else "objective"), values),
        traces=(
            Trace(name="95 % band", kind="band", colour="run-0", x=spent, y=upper, low=lower, key=len(spent) > 1),
            Trace(
                name="as believed then",
                kind="line",
                colour="run-0",
                x=spent,
                y=mean,
                text=tuple(
                    f"trial {p.trial} after {count(p.spent)} tokens<br>{objective(data)}:<br>{fine(p.value.mean)} "
                    f"\u00b1 {fine(p.value.sd)}"
                    for p in data.picks
                ),
                size=6,
            ),
            Trace(
                name="the same recipe as believed now",
                kind="points",
                colour="run-1",
                x=spent,
                y=tuple(pick.hindsight for pick in data.picks),
                text=tuple(f"trial {p.trial}, as believed now: {fine(p.hindsight)}" for p in data.picks),
                symbol="square",
                size=6,
            ),
        ),
        levels=(Level(axis="x", at=data.budget / size, text="budget", colour="alarm"),),
    )


def rung_totals(data: SearchData) -> list[tuple[str, int, float]]:
    """(part of a run, jobs, tokens charged) of each rung."""
    rows = []
    for rung, part in enumerate(data.rungs):
        jobs: list[JobData] = [job for job in data.jobs if job.rung == rung]
        before = data.rungs[rung - 1] if rung else 0.0
        rows.append((f"{100 * before:g} to {100 * part:g} %", len(jobs), sum(job.settled for job in jobs)))
    return rows
