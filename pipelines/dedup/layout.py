"""Where the files of a deduplication lie, and how its documents and keys are cut into tasks.

Documents have numbers: row r of part p is node ``offsets[p] + r``. Arrays over nodes are cut into partitions of
``task_rows``, hashed keys into buckets of about as many rows, so that a task's memory does not grow with the corpus.
Neither the cut nor the order of the parts shows in what is kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ground.files import canonical_json, write_atomic
from pipelines.dedup.config import DedupConfig
from pipelines.dedup.signatures import SIGNATURES
from pipelines.dedup.tables import KEYS, Array, Columns, Nodes, gather, read_table

Item = dict[str, Any]
Result = dict[str, Any]
Task = Callable[[Item], Result]
Run = Callable[[str, Task, Sequence[Item]], list[Result]]
"""The executor: runs a phase (its name, its task, its items) and returns the results in the order of the items. An item
that is done may be skipped if its result is kept; one that is run again writes the same files."""

TASK_ROWS = 1 << 21
"""Rows a task works on: up to about 0.5 GB of memory in the heaviest phase."""
_LAYOUT = "layout.json"


class SignedPart(NamedTuple):
    """A part whose signatures are written."""

    folder: str
    """Holds ``signatures.arrow``."""
    rows: int
    """What ``SignatureWriter.close`` returned."""
    source: str
    """Name of the source of all its documents."""


@dataclass(frozen=True)
class Layout:
    """One deduplication. Written once by its driver and read by every task.

    Attributes:
        parts: at least one.
        sources: names in the order of declaration.
    """

    folder: Path
    parts: tuple[SignedPart, ...]
    sources: tuple[str, ...]
    config: DedupConfig
    task_rows: int

    @classmethod
    def read(cls, folder: str | Path) -> Layout:
        """The layout of a folder."""
        value = json.loads((Path(folder) / _LAYOUT).read_text())
        return cls(
            Path(folder),
            tuple(SignedPart(*part) for part in value["parts"]),
            tuple(value["sources"]),
            DedupConfig.model_validate(value["config"]),
            value["task_rows"],
        )

    def write(self) -> None:
        """Make the layout known to tasks."""
        value = {
            "parts": self.parts,
            "sources": self.sources,
            "config": self.config.model_dump(mode="json"),
            "task_rows": self.task_rows,
        }
        write_atomic(self.folder / _LAYOUT, canonical_json(value))

    @cached_property
    def offsets(self) -> Nodes:
        """[parts + 1] node of each part's first row."""
        return np.cumsum([0, *(part.rows for part in self.parts)], dtype=np.int64)

    def nodes_of(self, part: int) -> Nodes:
        """Nodes of a part's rows."""
        return np.arange(int(self.offsets[part]), int(self.offsets[part + 1]))

    @property
    def rows(self) -> int:
        """Documents of all parts."""
        return int(self.offsets[-1])

    @property
    def partitions(self) -> int:
        """Pieces of an array over all nodes."""
        return max(1, -(-self.rows // self.task_rows))

    def partition(self, index: int) -> tuple[int, int]:
        """First node of a partition and of the next one."""
        return index * self.task_rows, min((index + 1) * self.task_rows, self.rows)

    def buckets(self, rows_a_document: int) -> int:
        """Buckets of the hashed keys when every document has so many."""
        return max(1, -(-self.rows * rows_a_document // self.task_rows))

    def path(self, phase: str, index: int, ending: str = "arrow") -> Path:
        """The file that the item ``index`` of a phase writes."""
        return self.folder / phase / f"{index:06d}.{ending}"

    def paths(self, phase: str, count: int) -> list[Path]:
        """The files of all items of a phase."""
        return [self.path(phase, index) for index in range(count)]

    def bucket(self, phase: str, runs: int, index: int, buckets: int) -> Columns:
        """Rows of bucket ``index`` of all runs of a phase, by their column ``key``."""
        return gather(self.paths(phase, runs), "key", KEYS * index // buckets, KEYS * (index + 1) // buckets)

    def signatures(self, part: int) -> Path:
        """A part's file of signatures."""
        return Path(self.parts[part].folder) / SIGNATURES

    def of_part(self, index: int, names: Sequence[str]) -> Columns:
        """Columns of a part's signatures."""
        return read_table(self.signatures(index), names)

    def of_nodes(self, nodes: Nodes, names: Sequence[str]) -> Columns:
        """Columns of the signatures of any documents, [nodes, ...] each; reads the rows asked for only."""
        order = np.argsort(nodes, kind="stable")
        ordered = nodes[order]
        edges = np.searchsorted(ordered, self.offsets)
        found: Columns = {}
        for part in np.flatnonzero(np.diff(edges)).tolist():
            here = slice(edges[part], edges[part + 1])
            for name, values in self.of_part(part, names).items():
                if name not in found:
                    found[name] = np.empty((len(nodes), *values.shape[1:]), dtype=values.dtype)
                found[name][order[here]] = values[ordered[here] - self.offsets[part]]
        return found


class NodeArray:
    """An array over all nodes, one file a partition, mapped when first touched.

    Args:
        phase: whose files hold the column ``label``; None: every node's label is its own number.
    """

    def __init__(self, layout: Layout, phase: str | None) -> None:
        self.layout, self.phase = layout, phase
        self._mapped: dict[int, Array] = {}

    def take(self, nodes: Nodes) -> Nodes:
        """Labels of any nodes."""
        if self.phase is None or not len(nodes):
            return nodes.copy()
        size = self.layout.task_rows
        first, last = int(nodes.min()) // size, int(nodes.max()) // size
        if first == last:
            labels: Nodes = self._partition(first)[nodes - first * size]
            return labels
        labels = np.empty_like(nodes)
        order = np.argsort(nodes, kind="stable")
        ordered = nodes[order]
        edges = np.searchsorted(ordered, np.arange(first, last + 2) * size)
        for piece in np.flatnonzero(np.diff(edges)).tolist():
            here = slice(edges[piece], edges[piece + 1])
            labels[order[here]] = self._partition(first + piece)[ordered[here] - (first + piece) * size]
        return labels

    def _partition(self, index: int) -> Array:
        assert self.phase is not None
        if index not in self._mapped:
            self._mapped[index] = read_table(self.layout.path(self.phase, index), ["label"])["label"]
        return self._mapped[index]
