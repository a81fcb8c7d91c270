"""Which member of each component stays, once scores are known, and why the others go.

    present (a part)          -> run of (component, place in the order of choice, content, ...), sorted by component
    choose (a bucket)         -> (node, reason, kept node) of every document that goes, sorted by node
    settle (a part)           -> reason codes [rows], counts, a sample of pairs

*Held-out documents* are chosen by their own hash and are the same whatever else changes: near copies of other documents
stay, and of equal ones those of the same source are dropped but one. *Training documents* of a component with a
held-out document all go (``near_heldout``, exact copies too: one reason for all that would leak into the evaluation). In
any other component the document with the smallest (priority of its source, score, hash, hash of its id) stays; the
others go, as ``duplicate`` where a better document of the component has the same content, else as ``near_duplicate``.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ground.errors import CorruptError
from ground.files import write_atomic
from pipelines.dedup.config import FuzzyConfig
from pipelines.dedup.exact import LABELS
from pipelines.dedup.layout import Item, Layout, NodeArray, Result
from pipelines.dedup.signatures import estimate_similarity
from pipelines.dedup.tables import Columns, Nodes, gather, group_starts, open_table, write_run

KEEP, DUPLICATE, NEAR_DUPLICATE, NEAR_HELDOUT = range(4)
REASONS = ("", "duplicate", "near_duplicate", "near_heldout")
"""By code: why a document goes; code 0 stays."""

PRESENTED, CHOICES, OUTCOMES = "presented", "choices", "outcomes"
"""Phases; their files lie below a folder for the choice (``item["choice"]``), since one search may serve several."""
SAMPLES = 20
"""Pairs of each reason in a sample: those whose dropped documents have the smallest hashes."""
_IDENTITY = ("hash_high", "hash_low", "key")


def read_reasons(path: Path) -> NDArray[np.uint8]:
    """Reason codes [rows] of a part, mapped."""
    reasons: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return reasons


def reasons_path(layout: Layout, choice: str, part: int) -> Path:
    """File of a part's reason codes."""
    return layout.path(f"{choice}/{OUTCOMES}", part, "npy")


def write_reasons(path: Path, reasons: NDArray[np.uint8]) -> None:
    """Write the reason codes [rows] of a part."""
    data = io.BytesIO()
    np.save(data, reasons)
    write_atomic(path, data.getvalue())


def present(item: Item) -> Result:
    """Sort part ``index`` by component (``labels``: the phase with the labels, None for exact copies only), with the
    ``scores`` of its documents (path of a ``.npy`` of floats [rows], or None for zeros).

    Raises:
        CorruptError: the number of scores is not the number of rows, or one is not a number.
    """
    layout, part = Layout.read(item["folder"]), item["index"]
    nodes = layout.nodes_of(part)
    own = layout.of_part(part, [*_IDENTITY, "heldout"])
    scores = np.zeros(len(nodes)) if item["scores"] is None else np.load(item["scores"]).astype(np.float64)
    if scores.shape != nodes.shape or np.isnan(scores).any():
        mend = "remove the scores and run the command again"
        raise CorruptError(str(item["scores"]), f"does not hold {len(nodes)} scores that are numbers", mend)
    contents = NodeArray(layout, LABELS).take(nodes)
    source = layout.sources.index(layout.parts[part].source)
    columns = {
        "component": NodeArray(layout, item["labels"]).take(contents) if item["labels"] else contents,
        "content": contents,
        "node": nodes,
        "score": scores,
        "rank": np.full(len(nodes), layout.config.ranks(layout.sources)[source], dtype=np.int32),
    }
    write_run(layout.path(f"{item['choice']}/{PRESENTED}", part), "component", columns | own)
    return {}


def choose(item: Item) -> Result:
    """Choose in the components of partition ``index``, each named by its first node."""
    layout, index = Layout.read(item["folder"]), item["index"]
    rows = gather(
        layout.paths(f"{item['choice']}/{PRESENTED}", len(layout.parts)), "component", *layout.partition(index)
    )
    reasons, kept = judge(rows)
    gone = reasons != KEEP
    choices = {"node": rows["node"][gone], "reason": reasons[gone], "kept": kept[gone]}
    write_run(layout.path(f"{item['choice']}/{CHOICES}", index), "node", choices)
    return {"components": len(np.unique(rows["component"][gone]))}


def judge(rows: Columns) -> tuple[NDArray[np.uint8], Nodes]:
    """Reason to drop each document, and the node it goes for: of exact copies the better one, which may itself go as a
    near duplicate, else the one of its component that stays.

    Args:
        rows: columns ``component``, ``content``, ``node``, ``score``, ``rank``, ``hash_high``, ``hash_low``, ``key``,
            ``heldout``, each [documents]; whole components.
    """
    reasons = np.zeros(len(rows["node"]), dtype=np.uint8)
    kept = rows["node"].copy()
    heldout = rows["heldout"] > 0
    inside = np.flatnonzero(heldout)
    first = _best_of(rows, inside, ["content", "rank"], _IDENTITY)
    reasons[inside[first != inside]] = DUPLICATE
    kept[inside] = rows["node"][first]
    staying = inside[first == inside]
    leaders, leader_components = _leaders(rows, staying)
    place = np.searchsorted(leader_components, rows["component"])
    near = np.zeros(len(heldout), dtype=np.bool_)
    if len(leaders):
        near = ~heldout & (leader_components[np.minimum(place, len(leaders) - 1)] == rows["component"])
        reasons[near] = NEAR_HELDOUT
        kept[near] = rows["node"][leaders[place[near]]]
    free = np.flatnonzero(~heldout & ~near)
    order = ["rank", "score", *_IDENTITY]
    winner, copy = _best_of(rows, free, ["component"], order), _best_of(rows, free, ["content"], order)
    reasons[free[winner != free]] = NEAR_DUPLICATE
    reasons[free[copy != free]] = DUPLICATE
    kept[free] = rows["node"][np.where(copy != free, copy, winner)]
    return reasons, kept


def settle(item: Item) -> Result:
    """Write the reason codes of part ``index``; count them and sample pairs."""
    layout, part = Layout.read(item["folder"]), item["index"]
    low, high = int(layout.offsets[part]), int(layout.offsets[part + 1])
    choices = gather(layout.paths(f"{item['choice']}/{CHOICES}", layout.partitions), "node", low, high)
    reasons = np.zeros(high - low, dtype=np.uint8)
    reasons[choices["node"] - low] = choices["reason"]
    write_reasons(reasons_path(layout, item["choice"], part), reasons)
    counts = np.bincount(reasons, minlength=len(REASONS))
    samples = [entry for code in (DUPLICATE, NEAR_DUPLICATE, NEAR_HELDOUT) for entry in _sample(layout, code, choices)]
    return {"counts": {REASONS[code]: int(counts[code]) for code in range(1, len(REASONS))}, "samples": samples}


def _best_of(rows: Columns, chosen: Nodes, group: list[str], order: list[str] | tuple[str, ...]) -> Nodes:
    """For each row of ``chosen`` the row of its group that comes first in ``order`` (then by node)."""
    names = [*group, *order, "node"]
    sorting = chosen[np.lexsort([rows[name][chosen] for name in reversed(names)])]
    starts = group_starts(np.zeros(len(sorting)))
    for name in group:
        starts = np.union1d(starts, group_starts(rows[name][sorting]))
    best = np.empty(len(rows["node"]), dtype=np.int64)
    best[sorting] = np.repeat(sorting[starts[:-1]], np.diff(starts))
    return best[chosen]


def _leaders(rows: Columns, staying: Nodes) -> tuple[Nodes, Nodes]:
    """The held-out row that stands for each component with one, and those components, sorted."""
    leaders = np.unique(_best_of(rows, staying, ["component"], ["rank", *_IDENTITY]))
    leaders = leaders[np.argsort(rows["component"][leaders])]
    return leaders, rows["component"][leaders]


def _sample(layout: Layout, code: int, choices: Columns) -> list[dict[str, Any]]:
    """The pairs of one reason whose dropped documents have the smallest hashes, one pair a hash."""
    nodes, kept = (choices[name][choices["reason"] == code] for name in ("node", "kept"))
    if not len(nodes):
        return []
    identity = layout.of_nodes(nodes, _IDENTITY)
    order = np.lexsort([identity[name] for name in reversed(_IDENTITY)])
    smallest = order[group_starts(identity["hash_high"][order])[:-1]][:SAMPLES]
    nodes, kept = nodes[smallest], kept[smallest]
    return [
        {"reason": REASONS[code], "dropped": dropped, "kept": stays, "similarity": similarity}
        for dropped, stays, similarity in zip(
            [_named(layout, node) for node in nodes.tolist()],
            [_named(layout, node) for node in kept.tolist()],
            _similarities(layout, nodes, kept),
            strict=True,
        )
    ]


def _similarities(layout: Layout, nodes: Nodes, others: Nodes) -> list[float | None]:
    """Estimated Jaccard similarity of each pair, None without signatures."""
    fuzzy: FuzzyConfig | None = layout.config.fuzzy
    if fuzzy is None:
        return [None] * len(nodes)
    first, second = (layout.of_nodes(side, ["signature"])["signature"] for side in (nodes, others))
    estimates: list[float | None] = [*estimate_similarity((first == second).sum(axis=1), fuzzy.permutations).tolist()]
    return estimates


def _named(layout: Layout, node: int) -> dict[str, str]:
    part = int(np.searchsorted(layout.offsets, node, side="right")) - 1
    row = open_table(layout.signatures(part)).slice(node - int(layout.offsets[part]), 1).to_pydict()
    return {
        "source": layout.parts[part].source,
        "id": row["id"][0],
        "hash": f"{row['hash_high'][0]:016x}{row['hash_low'][0]:016x}",
    }
