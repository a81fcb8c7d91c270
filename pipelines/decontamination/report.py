"""What was found, by evaluation set: a tally that adds up the same whatever the order and the size of the batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pipelines.decontamination.index import Header, Hit


@dataclass(frozen=True, slots=True)
class TaskReport:
    """One evaluation set against the corpus."""

    name: str
    items: int
    """Items of the set."""
    items_hit: int
    """Distinct items that some document repeats."""
    documents: int
    """Documents that repeat an item."""
    texts: int
    """Texts of the set that were compared."""
    short_texts: int
    """Texts too short to be compared."""
    unseen_items: int
    """Items none of whose texts could be compared."""
    boilerplate_texts: int
    """Texts of nothing but n-grams that most items share, not compared either."""


@dataclass
class Tally:
    """Hits added up; ``to_json`` and ``from_json`` carry one from a worker, ``merge`` joins two."""

    documents: dict[str, int] = field(default_factory=dict)
    """Documents that hit, by evaluation set."""
    items: set[int] = field(default_factory=set)
    """Numbers of the items hit."""
    contaminated: int = 0
    """Documents that hit any set."""

    def add(self, hits: Iterable[Hit]) -> None:
        """Count documents, each given once."""
        for hit in hits:
            self.contaminated += 1
            self.items.update(hit.items)
            for task in hit.tasks:
                self.documents[task] = self.documents.get(task, 0) + 1

    def merge(self, other: Self) -> None:
        """Add the counts of other documents."""
        self.contaminated += other.contaminated
        self.items |= other.items
        for task, count in other.documents.items():
            self.documents[task] = self.documents.get(task, 0) + count

    def to_json(self) -> dict[str, Any]:
        """Plain values that ``from_json`` takes; equal tallies give equal values."""
        return {
            "contaminated": self.contaminated,
            "documents": dict(sorted(self.documents.items())),
            "items": sorted(self.items),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The tally that ``to_json`` told."""
        return cls(dict(values["documents"]), set(values["items"]), values["contaminated"])

    def report(self, header: Header) -> list[TaskReport]:
        """One line for each evaluation set of the index, sorted by name."""
        lines, first = [], 0
        for task in header.tasks:
            items_hit = sum(1 for item in self.items if first <= item < first + task.items)
            lines.append(
                TaskReport(
                    task.name,
                    task.items,
                    items_hit,
                    self.documents.get(task.name, 0),
                    task.texts,
                    task.short_texts,
                    task.unseen_items,
                    task.boilerplate_texts,
                )
            )
            first += task.items
        return lines
