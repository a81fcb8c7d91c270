"""The sections on how a search went and might go on, as HTML; each returns one string, empty when it has nothing to say."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tracking.figures import count, duration, percent
from tracking.html import Cell, Row, paragraph, section, table
from tracking.search_charts import noise_of
from tracking.search_course_charts import rung_totals
from tracking.search_data import SearchData
from tracking.search_plot import Plot
from tracking.search_sections import figures, knob_cells
from tracking.search_text import fine, objective, signed, spelled, with_error

_CLEAR = 2.0
"""Standard deviations from which a difference counts as settled."""
_TERMS = (
    (
        "Run, trial, job",
        "a run is one training to its end; a trial is a recipe with a seed; a job takes a trial from one rung to the next.",
    ),
    (
        "S, E, share",
        "the subset of the domain text, how often the run passes over a mixture of that size, and the part of every batch that "
        "is domain text.",
    ),
    (
        "Expected, noise taken out",
        "the mean of the fit to all trials at the end of a run, which is steadier than one seed\u2019s report.",
    ),
    (
        "Law, regression",
        "published terms with fitted exponents (repeated data, share, forgetting, replay), and a plain second-order regression; "
        "weighted by how well each foretells trials left out of the fit.",
    ),
)


def budget(data: SearchData, plots: Sequence[Plot]) -> str:
    """What was spent on what, and what it bought."""
    if not plots:
        return ""
    rows: list[Row] = [
        [name, f"{jobs:,}", count(tokens), percent(tokens / data.settled if data.settled else None, 0)]
        for name, jobs, tokens in rung_totals(data)
    ]
    twice = sum(job.redone for job in data.jobs)
    if twice:
        rows.append(["trained twice after a crash", "", count(twice), percent(twice / data.settled, 0)])
    rows.append([Cell("in all", strong=True), f"{len(data.jobs):,}", Cell(count(data.settled), strong=True), ""])
    left = data.budget - data.settled - data.reserved
    told = (
        f"{count(data.settled)} of {count(data.budget)} tokens are charged ({percent(data.settled / data.budget, 0)})"
    )
    told += f", {count(data.reserved)} are reserved for jobs in flight" if data.reserved else ""
    told += f" and {count(left)} are left." if left > 0.5 else "; nothing is left."
    if data.device_seconds:
        told += f" The devices worked for {duration(data.device_seconds)} in all."
    if data.kind == "pareto":
        told += " A search for a front has no single best recipe so far, so no such curve is drawn."
    return section(
        "budget",
        "Budget",
        paragraph(told, "reading"),
        figures(plots),
        table(["part of a run", "jobs", "tokens", "of what was spent"], rows),
    )


def predictions(data: SearchData, plots: Sequence[Plot]) -> str:
    """Whether the laws foretold what came; says where they are not used."""
    if not data.fits:
        return ""
    verdicts = "".join(
        f"<li>{escape(spelled(fit.metric).capitalize())}: {escape(fit.verdict)}.</li>" for fit in data.fits
    )
    rows: list[Row] = [
        [
            spelled(fit.metric),
            f"{fit.weight:.2f}",
            f"{fit.count}",
            fine(fit.rmse),
            fine(fit.rmse_law),
            fine(fit.rmse_control),
            percent(fit.inside_95, 0),
            fine(fit.noise),
        ]
        for fit in data.fits
    ]
    head = [
        "metric",
        "weight of the law",
        "forecasts",
        "fit used",
        "law alone",
        "regression alone",
        "inside 95\u2009%",
        "noise of one trial",
    ]
    groups = [("", 3), ("error, root mean square", 3), ("", 2)]
    if not any(fit.count for fit in data.fits):
        why = (
            "the trials were not chosen by laws"
            if data.sampler != "laws"
            else "no job after the first design has ended"
        )
        return section("predictions", "Predictions against outcomes", f'<ul class="verdicts">{verdicts}</ul>',
                       paragraph(f"Nothing was foretold: {why}.", "note"))  # fmt: skip
    note = (
        "Every forecast was written down before its job started and is of one run, seeds included. Inside "
        "95\u2009%: share of "
        "outcomes within 1.96 standard deviations, 95\u2009% when the error bars are right."
    )
    return section("predictions", "Predictions against outcomes", f'<ul class="verdicts">{verdicts}</ul>', figures(plots),
                   table(head, rows, groups), paragraph(note, "note"))  # fmt: skip


def more(data: SearchData) -> str:
    """What the search would do with as much budget again, and whether it would be worth it."""
    found = data.next
    if found is None:
        return ""
    if found.gain is None:
        gain = "No trial has finished, so nothing can be said of what more would gain."
    else:
        gain = _gain_text(data, found.gain, found.threshold)
    parts = [paragraph(gain, "reading")]
    if found.stop:
        parts.append(paragraph(f"Its next decision would be to do nothing: {found.stop}.", "reading"))
    if found.proposals:
        head = [
            "job",
            "subset S",
            "epochs E",
            "share",
            "rate",
            "from",
            "to",
            spelled(data.domain_metric),
            spelled(data.general_metric),
            "why",
        ]
        rows: list[Row] = [
            [
                f"new trial {job.trial}" if job.fresh else f"trial {job.trial} goes on",
                *knob_cells(job.knobs),
                count(job.start),
                count(job.end),
                with_error(job.domain),
                with_error(job.general),
                Cell(job.reason, soft=True),
            ]
            for job in found.proposals
        ]
        parts += [
            paragraph("It would start with these jobs; both metrics as expected at the end of their runs.", "note"),
            table(head, rows),
        ]
    if found.replicate:
        parts.append(paragraph(_replicate_text(data), "reading"))
    return section("more", "With twice the budget", *parts)


def confirmation(data: SearchData) -> str:
    """Finalists at the larger run."""
    if not data.finalists:
        return ""
    rows: list[Row] = [
        [
            str(one.trial),
            *knob_cells(one.knobs),
            count(one.knobs.tokens),
            fine(one.small),
            with_error(one.foretold),
            fine(one.value),
            fine(one.domain),
            fine(one.general),
        ]
        for one in data.finalists
    ]
    head = [
        "trial",
        "subset S",
        "epochs E",
        "share",
        "rate",
        "tokens",
        "expected",
        "extrapolated",
        "measured",
        spelled(data.domain_metric),
        spelled(data.general_metric),
    ]
    groups = [("", 6), ("objective, small run", 1), ("objective, larger run", 2), ("measured at the larger run", 2)]
    if data.rank_correlation is None:
        told = "Fewer than three finalists were run at the larger size, so nothing can be said of whether ranks hold."
    else:
        told = (
            "Spearman\u2019s rank correlation of the objective at both sizes is "
            f"{signed(data.rank_correlation, 2)} over "
            f"{sum(one.value is not None for one in data.finalists)} recipes (1: the order held)."
        )
    return section(
        "confirmation", "Confirmation at a larger run", paragraph(told, "reading"), table(head, rows, groups)
    )


def definitions(data: SearchData) -> str:
    """What the words mean, one sentence each."""
    general = spelled(data.general_metric)
    terms = list(_TERMS)
    if data.kind == "tolerance":
        terms.insert(
            3,
            (
                "Objective",
                f"{objective(data)} ({fine(data.limit)} = base {fine(data.base_general)} + {data.epsilon:g}).",
            ),
        )
        terms.append(
            (
                "Critical ratio",
                f"the largest domain share at which {general} is expected to stay within the tolerance (CMR 2024).",
            )
        )
    items = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in terms)
    return section("definitions", "Definitions", f"<dl>{items}</dl>")


def _gain_text(data: SearchData, gain: float, threshold: float) -> str:
    lead = f"Over the best recipe, everything that could still be tried is expected to gain {fine(gain)}"
    if data.kind == "pareto":
        return f"{lead} along one direction of the front, in units of the metrics\u2019 spread over the trials."
    verb = "above" if gain >= threshold else "below"
    stops = f", {verb} the {fine(threshold)} at which a search ends by itself" if threshold else ""
    noise = noise_of(data, data.domain_metric)
    return f"{lead} of the objective{stops}; one trial\u2019s noise is {fine(noise)}."


def _replicate_text(data: SearchData) -> str:
    found = data.next.replicate if data.next else None
    assert found is not None
    mean, sd = found.difference.mean, found.difference.sd
    lead = (
        f"The nearest rival is trial {found.rival}: its objective is expected {signed(mean, 4)} against the best, "
        f"with a standard deviation of {sd:.2g}."
    )
    if abs(mean) > _CLEAR * sd:
        return f"{lead} That is settled; more seeds of both would add nothing."
    if abs(mean) > _CLEAR * found.after:
        verdict = "which would most likely settle it"
    elif found.after < 0.7 * sd:
        verdict = "which helps but does not settle it"
    else:
        verdict = "which settles nothing: their difference is smaller than what seeds can tell"
    return f"{lead} One more seed of both would shrink that standard deviation to {found.after:.2g}, {verdict}."
