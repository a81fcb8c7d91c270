"""Deduplication as phases of items for an executor; this process holds a few numbers for each part and task only.

    find_duplicates, before scoring:  contents of each part -> copies -> near copies -> components
    choose_members, after scoring:    which member of each component stays -> reason codes for each part

The corpus is read once before, to sign it (``signatures.py``); everything here works on signatures. A phase begins when the
one before has ended. Files of a bucket or partition are read by all tasks of the next phase, so a corpus of P parts and B
buckets opens P x B files: make parts of a hundred thousand documents, not of a hundred.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ground.files import digest_bytes
from pipelines.dedup import choose, components, exact, lsh
from pipelines.dedup.config import DedupConfig
from pipelines.dedup.layout import TASK_ROWS, Item, Layout, Result, Run, SignedPart
from pipelines.dedup.signatures import check_signatures

VERSION = 1  # raise when the same parts would give another outcome
_MAX_ROUNDS = 10_000


@dataclass(frozen=True)
class Found:
    """What ``find_duplicates`` found, counted; equal for any parts, their order and number of buckets (but ``rounds``)."""

    documents: int = 0
    copies: int = 0
    """Documents whose content is that of one before them."""
    compared: int = 0
    """Pairs of documents compared, once for every band they share."""
    joined: int = 0
    """Those of them that are near copies."""
    largest_bucket: int = 0
    """Most documents with one band in common."""
    rounds: int = 0
    """Rounds of label propagation."""
    labels: str | None = None
    """Phase whose files hold the components; None without fuzzy deduplication."""


@dataclass(frozen=True)
class Outcome:
    """What goes and why."""

    reasons: list[Path]
    """For each part a ``.npy`` file of reason codes [rows], 0 where the document stays (``read_reasons``, ``REASONS``)."""
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Documents that go, by source and reason."""
    samples: list[dict[str, Any]] = field(default_factory=list)
    """Up to 20 pairs of each reason: ``reason``, ``dropped`` and ``kept`` (``source``, ``id``, ``hash``), ``similarity``."""


def find_duplicates(
    parts: Sequence[SignedPart],
    sources: Sequence[str],
    config: DedupConfig,
    folder: Path,
    run: Run,
    task_rows: int = TASK_ROWS,
) -> Found:
    """Find exact and near copies in all parts.

    Args:
        parts: in any order.
        sources: names of all sources in the order of declaration.
        folder: where files go; all workers share it, and it serves this one set of parts, configuration, ``task_rows`` and
            ``VERSION`` only. Nothing but the reason codes is needed once the choice is made.
        task_rows: rows a task works on; does not change what is found.

    Raises:
        UserError: ``config.priorities`` names a source that is not there.
        CorruptError: signatures are damaged, or were made with other settings.
    """
    config.ranks(sources)
    layout = Layout(folder, tuple(parts), tuple(sources), config, task_rows)
    layout.write()
    if not layout.rows or not config.exact:
        return Found(documents=layout.rows)
    phase = _Phases(layout, run)
    phase("check", check_part, len(parts))
    phase("contents", exact.sort_contents, len(parts))
    copies = phase("copies", exact.match_contents, layout.buckets(exact.KEYS_A_DOCUMENT))
    phase("content-labels", exact.label_contents, layout.partitions)
    found = Found(documents=layout.rows, copies=sum(result["copies"] for result in copies))
    if config.fuzzy is None:
        return found
    buckets = layout.buckets(config.fuzzy.bands)
    phase("bands", lsh.hash_bands, len(parts))
    joined = phase("edges", lsh.join_bands, buckets)
    phase("collected", components.collect_edges, layout.partitions, edges=lsh.EDGES, runs=buckets)
    rounds = connect_nodes(layout, run)
    return Found(
        documents=layout.rows,
        copies=found.copies,
        compared=sum(result["compared"] for result in joined),
        joined=sum(result["joined"] for result in joined),
        largest_bucket=max(result["largest"] for result in joined),
        rounds=rounds,
        labels=components.labels_of(rounds - 1),
    )


def connect_nodes(layout: Layout, run: Run) -> int:
    """Propagate labels over the collected edges until nothing changes; returns the number of rounds."""
    phase = _Phases(layout, run)
    for round_ in range(_MAX_ROUNDS):
        results = phase(components.labels_of(round_), components.propagate, layout.partitions, round=round_)
        if not any(result["changed"] for result in results):
            return round_ + 1
    raise AssertionError(f"components still change after {_MAX_ROUNDS} rounds")


def choose_members(
    folder: Path, found: Found, scores: Sequence[str | None] | None, run: Run, choice: str = "choice"
) -> Outcome:
    """Choose the member of each component that stays.

    Args:
        folder: the one that ``find_duplicates`` was given.
        found: what it returned.
        scores: for each part a ``.npy`` file of floats [rows], lower is better; None (for all, or for a part): zeros.
        choice: name of the folder below ``folder`` for these scores' files; serves no other scores.

    Raises:
        CorruptError: a part has not as many scores as rows, or a score is no number.
    """
    layout = Layout.read(folder)
    parts = len(layout.parts)
    phase = _Phases(layout, run)
    reasons = [choose.reasons_path(layout, choice, part) for part in range(parts)]
    if not layout.rows or not layout.config.exact:
        phase("outcomes", keep_all, parts, choice=choice)
        return Outcome(reasons)
    given = [None] * parts if scores is None else list(scores)
    phase.items(
        "presented", choose.present, [{"scores": path, "labels": found.labels, "choice": choice} for path in given]
    )
    phase("choices", choose.choose, layout.partitions, choice=choice)
    results = phase("outcomes", choose.settle, parts, choice=choice)
    counts: dict[str, Counter[str]] = {}
    for part, result in zip(layout.parts, results, strict=True):
        counts.setdefault(part.source, Counter()).update(result["counts"])
    samples = [entry for result in results for entry in result["samples"]]
    return Outcome(
        reasons,
        {source: {reason: count for reason, count in sorted(of.items()) if count} for source, of in counts.items()},
        _smallest_of_each_reason(samples),
    )


def deduplicate(
    parts: Sequence[SignedPart],
    sources: Sequence[str],
    config: DedupConfig,
    folder: Path,
    run: Run,
    scores: Sequence[str | None] | None = None,
    task_rows: int = TASK_ROWS,
) -> Outcome:
    """``find_duplicates`` and ``choose_members`` in one, for scores that are there already."""
    return choose_members(folder, find_duplicates(parts, sources, config, folder, run, task_rows), scores, run)


def check_part(item: Item) -> Result:
    """Check that the signatures of part ``index`` are whole and made as the configuration says."""
    layout, index = Layout.read(item["folder"]), item["index"]
    check_signatures(layout.signatures(index), layout.parts[index].rows, layout.config)
    return {}


def keep_all(item: Item) -> Result:
    """Write reason codes of part ``index`` that drop nothing."""
    layout, index = Layout.read(item["folder"]), item["index"]
    reasons = np.zeros(layout.parts[index].rows, dtype=np.uint8)
    choose.write_reasons(choose.reasons_path(layout, item["choice"], index), reasons)
    return {}


class _Phases:
    """Runs phases of one layout."""

    def __init__(self, layout: Layout, run: Run) -> None:
        self.layout, self.run = layout, run

    def __call__(self, name: str, task: Any, count: int, **values: Any) -> list[Result]:
        return self.items(name, task, [values] * count)

    def items(self, name: str, task: Any, values: Sequence[Item]) -> list[Result]:
        """Items get the layout's folder and their index."""
        folder = str(self.layout.folder)
        return self.run(name, task, [{"folder": folder, "index": i, **value} for i, value in enumerate(values)])


def _smallest_of_each_reason(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those with the smallest hashes, in the order of ``choose``, so that the parts cannot be seen."""

    def place(entry: dict[str, Any]) -> tuple[str, ...]:
        dropped = entry["dropped"]
        return entry["reason"], dropped["hash"], digest_bytes(dropped["id"]), dropped["source"]

    chosen: dict[str, dict[str, dict[str, Any]]] = {}
    for entry in sorted(samples, key=place):
        of_reason = chosen.setdefault(entry["reason"], {})
        if len(of_reason) < choose.SAMPLES:
            of_reason.setdefault(entry["dropped"]["hash"], entry)
    return [entry for of_reason in chosen.values() for entry in of_reason.values()]
