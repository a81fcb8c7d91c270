"""A look at a ranking before anything expensive runs: the best, middle and worst documents of each source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Place = Literal["best", "middle", "worst"]

_EXCERPT = 100


@dataclass(frozen=True)
class ScoredDocument:
    """A document and its score."""

    source: str
    id: str
    hash: str
    score: float
    text: str


@dataclass(frozen=True)
class PreviewRow:
    """One line of the preview."""

    source: str
    place: Place
    rank: int
    """Place in the source's ranking, from 1."""
    of: int
    """Documents of the source that were looked at."""
    score: float
    id: str
    excerpt: str


def preview(documents: Iterable[ScoredDocument], n: int, width: int = _EXCERPT) -> list[PreviewRow]:
    """The best, middle and worst n / 3 documents of each source (at least one each), in order of (score, hash, id).

    A source of no more than n documents is shown whole. Excerpts are the first ``width`` characters on one line.
    """
    by_source: defaultdict[str, list[ScoredDocument]] = defaultdict(list)
    for document in documents:
        by_source[document.source].append(document)
    rows = []
    for source in sorted(by_source):
        ranked = sorted(by_source[source], key=lambda d: (d.score, d.hash, d.id))
        for index, place in _chosen(len(ranked), max(1, n // 3)):
            chosen = ranked[index]
            text = excerpt(chosen.text, width)
            rows.append(PreviewRow(source, place, index + 1, len(ranked), chosen.score, chosen.id, text))
    return rows


def excerpt(text: str, width: int = _EXCERPT) -> str:
    """The beginning of a text on one line, without characters that a terminal would obey."""
    line = " ".join(text[: 8 * width].split())
    return "".join(c if c.isprintable() else "\ufffd" for c in line[:width])


def _chosen(total: int, each: int) -> list[tuple[int, Place]]:
    if total <= 3 * each:
        thirds: list[Place] = ["best", "middle", "worst"]
        return [(index, thirds[3 * index // total]) for index in range(total)]
    middle = (total - each) // 2
    middle = min(max(middle, each), total - 2 * each)
    parts: list[tuple[int, Place]] = [(index, "best") for index in range(each)]
    parts += [(index, "middle") for index in range(middle, middle + each)]
    return [*parts, *((index, "worst") for index in range(total - each, total))]
