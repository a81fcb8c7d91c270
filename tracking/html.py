"""Small pieces of HTML: escaping, tables that scroll inside their own box."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_PALETTE = 6  # colours of runs, and of sources, in the style sheet


def run_colour(index: int) -> str:
    """CSS colour of a run."""
    return f"var(--run-{index % _PALETTE})"


def source_colour(index: int) -> str:
    """CSS colour of a source."""
    return f"var(--source-{index % _PALETTE})"


@dataclass(frozen=True, slots=True)
class Cell:
    """One table cell: text, which is escaped, and its style."""

    text: str
    strong: bool = False
    soft: bool = False
    note: str = ""
    """Smaller, after the text."""
    swatch: str = ""
    """CSS colour of a mark before the text."""

    def render(self, tag: str, attributes: str = "") -> str:
        """The cell as a ``td`` or ``th``."""
        text = escape(self.text)
        text = f"<b>{text}</b>" if self.strong else text
        mark = f'<i class="swatch" style="background:{self.swatch}"></i>' if self.swatch else ""
        text = f'<span class="soft">{text}</span>' if self.soft else text
        note = f" <small>{escape(self.note)}</small>" if self.note else ""
        return f"<{tag}{attributes}>{mark}{text}{note}</{tag}>"


Row = Sequence[Cell | str]


def table(head: Row, rows: Sequence[Row], groups: Sequence[tuple[str, int]] = (), words: bool = False) -> str:
    """A table whose first column stays in view while the rest scrolls.

    Args:
        head: column heads.
        rows: cells; a string is a plain cell.
        groups: heads above the heads: (text, number of columns).
        words: cells hold words (left-aligned) rather than numbers.
    """
    top = ""
    if groups:
        cells = "".join(
            f'<th colspan="{span}" scope="colgroup">{f"<span>{escape(text)}</span>" if text else ""}</th>'
            for text, span in groups
        )
        top = f'<tr class="groups">{cells}</tr>'
    heads = "".join(_cell(cell).render("th", ' scope="col"') for cell in head)
    body = "".join(
        "<tr>"
        + _cell(row[0]).render("th", ' scope="row"')
        + "".join(_cell(cell).render("td") for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    kind = " words" if words else ""
    return (
        f'<div class="scroll" tabindex="0"><table class="data{kind}"><thead>{top}<tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def section(anchor: str, title: str, *parts: str) -> str:
    """A section with a heading; parts that are empty vanish."""
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{"".join(parts)}</section>'


def paragraph(text: str, kind: str = "") -> str:
    """An escaped paragraph of CSS class ``kind``."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{escape(text)}</p>"


def details(summary: str, content: str) -> str:
    """A part that is closed at first."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def mark_runs(names: Sequence[str], text: str) -> str:
    """The escaped text with each run's name in its colour. Long names first, so that no part of one is marked."""
    text = re.sub(r"(\d) (?=[kMGT]\b)", "\\1\u00a0", escape(text))  # a count and its unit stay on one line
    marks = {f"\0{index}\0": (escape(name), run_colour(index)) for index, name in enumerate(names)}
    for mark, (name, _) in sorted(marks.items(), key=lambda item: -len(item[1][0])):
        text = text.replace(name, mark)
    for mark, (name, colour) in marks.items():
        text = text.replace(mark, f'<b style="color:{colour}">{name}</b>')
    return text


def _cell(cell: Cell | str) -> Cell:
    return cell if isinstance(cell, Cell) else Cell(cell)
