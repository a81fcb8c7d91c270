"""The funnel and the preview of a ranking in the terminal, in tables that fit 80 columns as well as 200."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster.console import console, count
from pipelines.quality.preview import PreviewRow
from tracking.curation import Amount, SourceFunnel, by_size, read_funnel

_TOP = 8
"""Reasons shown of each source; the others are summed up."""
_NAME, _WORD = 30, 40
"""Widest name of a source or document, widest reason, in characters."""
_GLUE = "\u00a0"  # textwrap does not break here
_SHORT_NAME = 14
"""Narrowest column of names before numbers are rounded."""
_GAP, _INDENT = 2, "  "
_HEADS = {
    "filters": ("after\nfilters", "after\nfilters"),
    "decontamination": ("after decon-\ntamination", "after\ndecont."),
    "duplicates": ("after\nduplicates", "after\ndupl."),
}
"""Stage -> its heading, and a shorter one for narrow terminals."""


def show_funnel(funnel: Mapping[str, Any], to: Console = console) -> None:
    """Documents and tokens after each stage, one row a source; then reasons, repairs and redactions of each source."""
    sources = read_funnel(funnel)
    to.print(Text("Curation funnel", style="bold"), Text("(documents, but for MB and tokens)", style="dim"))
    to.print(_stages(sources, to.width))
    for source in sources:
        lines = _notes(source)
        if not lines:
            continue
        share = f"{source.dropped_documents:,} of {source.read.documents:,} documents dropped"
        if source.read.documents:
            share += f" ({source.dropped_documents / source.read.documents:.1%})"
        to.print(Text.assemble((source.name, "bold"), "  ", share), overflow="ellipsis", no_wrap=True)
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True, style="dim")
        grid.add_column()
        for label, items in lines:
            grid.add_row(f"  {label}", Text(_flow(items, max(20, to.width - 18))))
        to.print(grid)


def show_preview(rows: Iterable[PreviewRow], to: Console = console) -> None:
    """The best, middle and worst documents of each source, in the order given; those of one source stand together."""
    for source, group in groupby(rows, key=lambda row: row.source):
        found = list(group)
        looked_at = f"  {found[0].of:,} documents looked at; lower scores are better"
        to.print(Text.assemble((source, "bold"), (looked_at, "dim")), overflow="ellipsis", no_wrap=True)
        to.print(_preview(found, to.width))


def _stages(sources: Sequence[SourceFunnel], width: int) -> Table:
    changed = {stage for source in sources for stage, lost in source.losses().items() if lost.documents}
    stages = [stage for stage in _HEADS if stage == "filters" or stage in changed]
    for exact in (True, False):  # a narrow terminal gets rounded numbers rather than cut ones
        heads = ["read", *(["MB"] if exact else []), *(_HEADS[stage][not exact] for stage in stages)]
        heads += ["kept", "held\nout", "tokens\nkept", *(["tokens\nheld out"] if exact else [])]
        rows = [_row(source, stages, exact) for source in sources]
        taken = sum(
            _GAP + max(map(len, [*head.split("\n"), *(row[index] for row in rows)])) for index, head in enumerate(heads)
        )
        room = width - taken - _GAP - len(_INDENT)
        if room >= _SHORT_NAME:
            break
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="")
    table.add_column("source", no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    role = ""
    for source, row in zip(sources, rows, strict=True):
        if source.role != role:
            role = source.role
            table.add_row(Text(role, style="bold"))
        table.add_row(_INDENT + middle(source.name, max(_SHORT_NAME, min(_NAME, room))), *row)
    return table


def _row(source: SourceFunnel, stages: Sequence[str], exact: bool) -> list[str]:
    left = [source.left_after(stage) or Amount() for stage in stages]
    kept, held = source.kept, source.heldout
    stored = source.role != "reference"  # a reference trains the quality model and stays out of the store
    return [
        _documents(source.read.documents, exact),
        *([_megabytes(source.read.bytes)] if exact else []),
        *(_documents(amount.documents, exact) for amount in left),
        _documents(kept.documents, exact),
        _documents(held.documents, exact) if stored else "-",
        count(kept.tokens) if stored else "-",
        *([count(held.tokens) if stored else "-"] if exact else []),
    ]


def _notes(source: SourceFunnel) -> list[tuple[str, list[str]]]:
    """What there is to say below the table: label and items, largest first."""
    dropped = [(reason, amount.documents) for reason, amount in source.reasons()]
    notes = [
        ("dropped", _items(dropped)),
        ("repaired", _items(by_size(source.repaired))),
        ("redacted", _items(by_size(source.redacted))),
        ("repeats tasks", _items(by_size(source.contaminated))),
    ]
    if source.role == "domain" and source.scores is not None:
        tenths = {"10% of tokens": 0.1, "50%": 0.5, "90%": 0.9}
        items = [f"{text} below {source.scores.quantile(share):.2f}" for text, share in tenths.items()]
        notes.append(("score", [item.replace(" ", _GLUE) for item in items]))
    return [(label, items) for label, items in notes if items]


def _items(counts: Sequence[tuple[str, int]]) -> list[str]:
    present = [(name, number) for name, number in counts if number]
    items = [f"{middle(name, _WORD)}{_GLUE}{number:,}" for name, number in present[:_TOP]]
    rest = present[_TOP:]
    if rest:
        items.append(f"+{_GLUE}{len(rest)}{_GLUE}more{_GLUE}({sum(number for _, number in rest):,})")
    return [item.replace(" ", _GLUE) for item in items]


def _flow(items: Sequence[str], width: int) -> str:
    """Items one after the other, broken only between them."""
    lines = textwrap.wrap("  ".join(items), width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace(_GLUE, " ")


def _preview(rows: Sequence[PreviewRow], width: int) -> Table:
    cells = [[row.place, f"{row.rank:,}", f"{row.score:.3f}", middle(_line(row.id), _NAME)] for row in rows]
    heads = ["", "rank", "score", "document"]
    room = width - sum(_GAP + max(map(len, column)) for column in zip(heads, *cells, strict=True)) - _GAP
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="")
    for head in heads:
        table.add_column(head, justify="right" if head in ("rank", "score") else "left", no_wrap=True)
    table.add_column("begins", no_wrap=True)
    for place, group in groupby(zip(rows, cells, strict=True), key=lambda pair: pair[0].place):
        table.add_section()
        for index, (row, values) in enumerate(group):
            begins = Text(_line(row.excerpt))
            begins.truncate(max(10, room), overflow="ellipsis")  # by cells: a wide character takes two
            table.add_row(place if index == 0 else "", *map(Text, values[1:]), begins)
    return table


def middle(text: str, width: int) -> str:
    """``text``, its middle cut out if it is wider: names differ at their ends."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}\u2026{text[-tail:]}"


def _line(text: str) -> str:
    """One line without characters that a terminal would obey."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))


def _documents(number: int, exact: bool) -> str:
    return f"{number:,}" if exact and number < 1_000_000 else count(number)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.2f}" if size < 100e6 else f"{size / 1e6:,.0f}"
