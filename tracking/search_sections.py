"""The sections on what a search found, as HTML; each returns one string, empty when it has nothing to say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from tracking.figures import NONE, count
from tracking.html import Cell, Row, details, paragraph, section, table
from tracking.search_answer import caveats, sentences
from tracking.search_data import SearchData
from tracking.search_parts import Knobs
from tracking.search_plot import Plot, Trace
from tracking.search_text import chance, epochs, knobs, rate, share, spelled, with_error


def subtitle(data: SearchData) -> str:
    """When it was made, of what."""
    state = "" if data.reason else ", still going on"
    return f"Search for the best recipe under one budget{state}. {data.created}"


def answer(data: SearchData) -> str:
    """What to train, how sure that is, what it cost."""
    doubts = " ".join(caveats(data))
    text = "".join(f"<p>{_held_together(sentence)}</p>" for sentence in sentences(data))
    lead = f'<section id="answer" class="findings">{text}{paragraph(doubts, "caveat") if doubts else ""}</section>'
    return lead + _answer_table(data)


def front(data: SearchData, plots: Sequence[Plot]) -> str:
    """All trials in both metrics, and the recipes on the front."""
    if not plots:
        return ""
    known = {trial.number: trial for trial in data.trials}
    rows: list[Row] = [
        [
            Cell(str(point.trial), strong=bool(data.best and point.trial == data.best.trial)),
            *knob_cells(known[point.trial].knobs),
            with_error(point.domain),
            with_error(point.general),
            chance(point.probability),
        ]
        for point in data.front
    ]
    head = [
        "trial",
        "subset S",
        "epochs E",
        "share",
        "rate",
        spelled(data.domain_metric),
        spelled(data.general_metric),
        "on the front",
    ]
    note = (
        "Recipes that no other finished one is expected to beat in both metrics at once, noise taken out; the "
        "last column is the "
        "probability that this is so."
    )
    parts = [paragraph(note, "note"), table(head, rows)] if rows else []
    return section("front-section", "Pareto front", figures(plots), *parts)


def maps(plots: Sequence[Plot]) -> str:
    """Expectations over two knobs each."""
    return section("maps", "Maps of the knobs", figures(plots, "maps")) if plots else ""


def shares(data: SearchData, plots: Sequence[Plot]) -> str:
    """Both metrics over the domain share, and what the published answers are here."""
    if not plots:
        return ""
    return section("shares", "The domain share", paragraph(_share_text(data), "reading"), figures(plots))


def gaps(data: SearchData, plots: Sequence[Plot]) -> str:
    """Both metrics over the tokens, of the best and the worst finished trial."""
    if not plots:
        return ""
    known = {trial.number: trial for trial in data.trials}
    told = [
        f"{'Best' if data.best and number == data.best.trial else 'Worst'}: trial {number} "
        f"({knobs(known[number].knobs)})."
        for number in data.curves
    ]
    if data.worst is None:
        told.append("There is no other finished recipe to put beside it.")
    return section("gaps", "Gap curves of the best and the worst", paragraph(" ".join(told), "reading"), figures(plots))


def recipe(data: SearchData) -> str:
    """``best.yaml``, word for word but for secrets."""
    if not data.recipe:
        return ""
    return section("recipe", "best.yaml", details("Show the recipe", f"<pre>{escape(data.recipe)}</pre>"))


def figures(plots: Sequence[Plot], kind: str = "") -> str:
    """Places for the charts, with titles, how to read them and keys."""
    if not plots:
        return ""
    wide = len(plots) == 1 and plots[0].wide
    grid = "grid wide" if wide else f"grid two {kind}".strip()
    cells = "".join(
        f"<figure><figcaption><b>{escape(plot.title)}</b><span>{escape(plot.reading)}</span></figcaption>{_keys(plot)}"
        f'<div class="chart" id="{escape(plot.anchor)}" role="img" aria-label="{escape(plot.title)}: {escape(plot.y.label)} over '
        f'{escape(plot.x.label)}"></div></figure>'
        for plot in plots
    )
    return f'<div class="{grid}">{cells}</div>'


def _keys(plot: Plot) -> str:
    marks = "".join(
        f'<span class="key">{_mark(trace)}{escape(trace.name)}</span>' for trace in plot.traces if trace.key
    )
    if plot.heat and plot.heat.edge:
        marks += (
            f'<span class="key"><i class="line" style="color:var(--alarm)"></i>{escape(plot.heat.edge_name)}</span>'
        )
    return f'<div class="keys">{marks}</div>' if marks else ""


def _mark(trace: Trace) -> str:
    colour = f"var(--{trace.colour})"
    if trace.kind == "line":
        return f'<i class="line{" dash" if trace.dash else ""}" style="color:{colour}"></i>'
    if trace.kind in ("band", "bars"):
        faint = ";opacity:.25" if trace.kind == "band" else ""
        return f'<i class="block" style="background:{colour}{faint}"></i>'
    if trace.symbol == "star":
        return f'<i class="star" style="color:{colour}"></i>'
    if trace.symbol == "circle-open":
        return f'<i class="dot open" style="border-color:{colour}"></i>'
    return f'<i class="{"dot" if trace.symbol == "circle" else trace.symbol}" style="background:{colour}"></i>'


def _answer_table(data: SearchData) -> str:
    """Each knob: its value, where it was looked for, what was published."""
    best = data.best
    if best is None:
        return ""
    known, ranges = best.knobs, data.ranges

    def searched(name: str) -> str:
        low, high = ranges[name]
        if name == "learning_rate":
            return f"{rate(low)} to {rate(high)}"
        return f"{low:g} to {high:g}" if high > low else f"fixed at {low:g}"

    follows = "follows: run / E" + (", both searched" if "run_tokens" in ranges else "")
    published = "0.82 (Guo et al. 2024), 0.30 to 0.48 (CMR 2024)"
    rows: list[Row] = [
        ["subset S, tokens", Cell(count(known.subset_tokens), strong=True), follows, NONE],
        ["epochs E", Cell(epochs(known.epochs), strong=True), searched("epochs"), "4 (Guo et al. 2024)"],
        ["domain share", Cell(share(known.share), strong=True), searched("share"), published],
    ]
    if known.learning_rate is not None:
        rows.append(
            ["peak learning rate", Cell(rate(known.learning_rate), strong=True), searched("learning_rate"), NONE]
        )
    run = (
        f"{count(ranges['run_tokens'][0])} to {count(ranges['run_tokens'][1])}"
        if "run_tokens" in ranges
        else "fixed: the run budget"
    )
    rows.append(["tokens of the run", Cell(count(known.tokens), strong=True), run, NONE])
    if len(best.shares) > 1:
        parts = ", ".join(f"{name} {value:.3g}" for name, value in best.shares.items())
        rows.append(["shares of the sources", Cell(parts), "in the proportions given", NONE])
    return section("best", "The recipe", table(["knob", "best", "searched in", "published"], rows, words=True))


def knob_cells(found: Knobs) -> list[Cell | str]:
    """Subset, epochs, share and rate."""
    return [
        count(found.subset_tokens),
        epochs(found.epochs),
        share(found.share),
        NONE if found.learning_rate is None else rate(found.learning_rate),
    ]


def _share_text(data: SearchData) -> str:
    critical, best = data.critical, data.best
    if critical is None or best is None:
        return "The published share of 0.82 (Guo et al. 2024) is marked."
    if critical.share is None:
        return (
            "At no share of the range is the general metric expected to stay within its tolerance with the best "
            "recipe\u2019s other knobs, so "
            "there is no critical ratio here; the published 0.82 (Guo et al. 2024) is marked."
        )
    beyond = (
        "the largest that was searched, so the true one may be larger"
        if critical.whole_range
        else "the critical mixture ratio of CMR 2024"
    )
    sure = (
        f"; with 95\u2009% confidence up to {critical.cautious:.2f}"
        if critical.cautious is not None
        else "; at no share with 95\u2009% confidence"
    )
    where = "within" if critical.share >= 0.82 - 1e-9 else "beyond"
    return (
        "With the best recipe\u2019s other knobs the general metric is expected to stay within its tolerance up "
        f"to a domain share of {critical.share:.2f} "
        f"({beyond}){sure}. The published 0.82 (Guo et al. 2024) is {where} it; the best recipe has "
        f"{share(best.knobs.share)}."
    )


def _held_together(text: str) -> str:
    """Escaped, a count and its unit on one line."""
    return re.sub(r"(\d) (?=[kMGT]\b)", "\\1\u00a0", escape(text))
