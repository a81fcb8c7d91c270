"""The report's section on the corpus: what curation read, dropped and kept, and why. Also a report of its own."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tracking.charts import Histogram
from tracking.curation import Amount, SourceFunnel, by_size
from tracking.figures import NONE, count, exact, percent, size
from tracking.html import Cell, Row, details, paragraph, section, table

_TOP_REASONS = 8
_TOP_ROWS = 12
_LOST = {
    "duplicates": "dropped as duplicates",
    "decontamination": "dropped as evaluation text",
    "filters": "dropped by filters",
    "read": "unreadable",
}
"""Stage -> what its part of a bar means, from the last stage to the first: what stays is on the left."""
MEANING = {
    "kept": "kept",
    "heldout": "held out",
    "repaired": "cut by repairs",
    **{f"lost-{stage}": text for stage, text in _LOST.items()},
}
"""Part of a bar, as a CSS class -> what it is."""
_REASONS = "Open a source for its reasons, and a reason for documents that were dropped by it. Shares are of all documents read."
_REASON_HEADS = (
    '<div class="reason heads"><span>reason</span><span>documents</span><span>of read</span><span>text</span></div>'
)
_TASKS = "Documents that repeat a passage of an evaluation set, by its name. One document may count for several sets; "


def corpus(sources: Sequence[SourceFunnel], histograms: Sequence[Histogram]) -> str:
    """The funnel by stage, reasons with examples, score histograms, duplicates, repeated evaluation text, repairs."""
    if not sources:
        return ""
    return section(
        "corpus",
        "Corpus",
        paragraph("What became of the documents of each source.", "note"),
        _bars(sources),
        _stage_table(sources),
        _part("Why documents were dropped", _REASONS, "".join(map(_source_reasons, sources))),
        _part("Quality of what is kept", "", _histogram_grid(histograms)),
        _part(
            "Evaluation sets found in the corpus",
            _TASKS + _contamination_note(sources),
            _counts(sources, "evaluation set", {source.name: source.contaminated for source in sources}),
        ),
        _part(
            "Duplicates, a sample",
            "Similarity is the share of word sequences that two documents have in common (Jaccard).",
            _pairs(sources),
        ),
        _part(
            "Repairs",
            "Documents changed, by kind of repair.",
            _counts(sources, "repair", {source.name: source.repaired for source in sources}),
        ),
        _part(
            "Identifiers redacted",
            "Redactions, by kind of identifier.",
            _counts(sources, "identifier", {source.name: source.redacted for source in sources}),
        ),
    )


def _part(title: str, note: str, content: str) -> str:
    if not content:
        return ""
    return f"<h3>{escape(title)}</h3>{paragraph(note, 'note') if note else ''}{content}"


def _bars(sources: Sequence[SourceFunnel]) -> str:
    """One bar a source, by documents or by text, as a button says."""
    used: set[str] = set()
    bars = ""
    for source in sources:
        parts = bar_parts(source)
        used |= {kind for kind, amount in parts if amount.documents or amount.bytes}
        segments = "".join(
            f'<i class="{kind}" style="--documents:{amount.documents};--text:{amount.bytes}" '
            f'title="{escape(MEANING[kind])}: {exact(amount.documents)} documents, {size(amount.bytes)}"></i>'
            for kind, amount in parts
            if amount.documents or amount.bytes
        )
        stay = [amount for kind, amount in parts if kind in ("kept", "heldout")]
        whole = [amount for _, amount in parts]
        shares = "".join(
            f'<b class="by-{name}">{_share(sum(f(a) for a in stay), sum(f(a) for a in whole))}</b>'
            for name, f in (("documents", _documents), ("text", _bytes))
        )
        bars += (
            f'<div class="bar"><span>{escape(source.name)} <small>{escape(source.role)}</small></span>'
            f"<div>{segments}</div><span>{shares} stay</span></div>"
        )
    keys = "".join(
        f'<span class="key{" by-text" if kind == "repaired" else ""}"><i class="swatch {kind}"></i>{escape(text)}</span>'
        for kind, text in MEANING.items()
        if kind in used
    )
    buttons = "".join(
        f'<button type="button" data-by="{name}" aria-pressed="{pressed}">{name}</button>'
        for name, pressed in (("documents", "true"), ("text", "false"))
    )
    return (
        f'<div class="funnel" data-by="documents"><div class="controls"><div class="keys">{keys}</div>'
        f'<div class="scales" role="group" aria-label="Bars count"><span>bars count</span>{buttons}</div></div>'
        f'<div class="bars">{bars}</div></div>'
    )


def bar_parts(source: SourceFunnel) -> list[tuple[str, Amount]]:
    """The parts of a source's bar, from what stays to what went first; keys of ``MEANING``."""
    losses = source.losses()
    return [
        ("kept", source.kept),
        ("heldout", source.heldout),
        ("repaired", Amount(bytes=source.repaired_bytes)),
        *((f"lost-{stage}", losses.get(stage, Amount())) for stage in _LOST),
    ]


def _stage_table(sources: Sequence[SourceFunnel]) -> str:
    changed = {stage for source in sources for stage, lost in source.losses().items() if lost.documents}
    stages = [stage for stage in ("filters", "decontamination", "duplicates") if stage in changed or stage == "filters"]
    rows: list[Row] = []
    for source in sources:
        left = [source.left_after(stage) or Amount() for stage in stages]
        stored = source.role != "reference"
        rows.append(
            [
                Cell(source.name, note=source.role),
                exact(source.read.documents),
                size(source.read.bytes),
                *(exact(amount.documents) for amount in left),
                exact(source.kept.documents),
                count(source.kept.tokens) if stored else NONE,
                exact(source.heldout.documents) if stored else NONE,
                count(source.heldout.tokens) if stored else NONE,
            ]
        )
    groups = [("", 1), ("read", 2), ("documents left after", len(stages)), ("kept", 2), ("held out", 2)]
    head = ["source", "documents", "text", *stages, "documents", "tokens", "documents", "tokens"]
    return table(head, rows, groups)


def _source_reasons(source: SourceFunnel) -> str:
    """The reasons of one source, closed at first; each opens to its examples."""
    reasons = source.reasons()
    if not reasons:
        return ""
    lines = [_reason(source, reason, amount) for reason, amount in reasons]
    rest = len(lines) - _TOP_REASONS
    content = _REASON_HEADS + "".join(lines[:_TOP_REASONS])
    if rest > 0:
        dropped = sum(amount.documents for _, amount in reasons[_TOP_REASONS:])
        content += details(f"{rest} more, {exact(dropped)} documents", "".join(lines[_TOP_REASONS:]))
    summary = (
        f"<b>{escape(source.name)}</b> {exact(source.dropped_documents)} of {exact(source.read.documents)} documents"
        f" <small>{_share(source.dropped_documents, source.read.documents)}</small>"
    )
    return f'<details class="source"><summary><span>{summary}</span></summary>{content}</details>'


def _reason(source: SourceFunnel, reason: str, amount: Amount) -> str:
    line = "".join(
        f"<span>{text}</span>"
        for text in (
            escape(reason.replace("_", " ")),
            exact(amount.documents),
            _share(amount.documents, source.read.documents),
            size(amount.bytes) if amount.bytes else NONE,
        )
    )
    found = source.examples.get(reason, ())
    if not found:
        return f'<div class="reason">{line}</div>'
    items = "".join(f'<dt>{escape(example.id)}</dt><dd dir="auto">{escape(example.excerpt)}</dd>' for example in found)
    return f'<details class="reason"><summary>{line}</summary><dl>{items}</dl></details>'


def _histogram_grid(histograms: Sequence[Histogram]) -> str:
    figures = "".join(
        f"<figure><figcaption><b>{escape(chart.title)}</b><span>{escape(chart.note)}</span></figcaption>"
        f'<div class="chart" id="{escape(chart.anchor)}" role="img" '
        f'aria-label="{escape(chart.title)}: tokens over {escape(chart.x_label)}"></div></figure>'
        for chart in histograms
    )
    return f'<div class="grid two">{figures}</div>' if figures else ""


def _contamination_note(sources: Sequence[SourceFunnel]) -> str:
    return (
        "they are dropped."
        if any("contaminated" in source.dropped for source in sources)
        else "they are kept, as the recipe asks."
    )


def _counts(sources: Sequence[SourceFunnel], what: str, counts: dict[str, dict[str, int]]) -> str:
    """Counts by kind (rows, largest first) and source (columns); empty when nothing was counted."""
    names = [source.name for source in sources if any(counts[source.name].values())]
    totals: dict[str, int] = {}
    for name in names:
        for kind, number in counts[name].items():
            totals[kind] = totals.get(kind, 0) + number
    with_total = len(names) > 1
    rows: list[Row] = [
        [
            kind.replace("_", " ") if what == "repair" else kind,
            *(exact(counts[name][kind]) if kind in counts[name] else NONE for name in names),
            *([exact(total)] if with_total else []),
        ]
        for kind, total in by_size(totals)
        if total
    ]
    if not rows:
        return ""
    head = [what, *names, *(["all"] if with_total else [])]
    rest = rows[_TOP_ROWS:]
    more = details(f"{len(rest)} more", table(head, rest)) if rest else ""
    return table(head, rows[:_TOP_ROWS]) + more


def _pairs(sources: Sequence[SourceFunnel]) -> str:
    rows: list[Row] = [
        [
            Cell(source.name, note=pair.reason.replace("_", " ")),
            pair.dropped,
            Cell(pair.kept, note="" if pair.kept_source == source.name else f"in {pair.kept_source}"),
            NONE if pair.similarity is None else f"{pair.similarity:.2f}",
        ]
        for source in sources
        for pair in source.pairs
    ]
    return table(["dropped from", "dropped", "copy that is kept", "similarity"], rows, words=True) if rows else ""


def _share(part: int, whole: int) -> str:
    return percent(part / whole if whole else None)


def _documents(amount: Amount) -> int:
    return amount.documents


def _bytes(amount: Amount) -> int:
    return amount.bytes
