"""Near copies: documents whose signatures agree in a band are compared, similar ones joined by an edge.

    hash_bands (a part)   -> run of (hash of a band's rows, node), sorted by hash; only the first of exact copies
    join_bands (a bucket) -> edges (node, other), sorted by node, both ways

In a bucket of m documents with the same band, each is compared with the first ``REPRESENTATIVES`` of them in an order that
their content and the band decide: all pairs up to that size, REPRESENTATIVES x m beyond it. The price: two documents of a
larger bucket that are no representatives are not compared there. A cluster of copies is still joined through the
representatives, of which every band has others, and a pair above the threshold shares five bands and more of 32, most
of them with few other documents.

Edges of one piece of work are thinned to a star for each set of joined documents, so that a thousand copies of one page
are a thousand edges.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.dedup.components import connect
from pipelines.dedup.config import FuzzyConfig
from pipelines.dedup.exact import LABELS
from pipelines.dedup.layout import Item, Layout, NodeArray, Result
from pipelines.dedup.tables import Array, Nodes, distinct_pairs, group_starts, write_run
from pipelines.words import Hashes, mix, sort_hashes

BANDS, EDGES = "bands", "edges"
REPRESENTATIVES = 64
_PIECE = 1 << 16  # documents whose signatures are in memory at once
_PAIRS = 1 << 15  # pairs compared at once
_BASE = np.uint64(0x9E3779B97F4A7C15)


def band_keys(signatures: NDArray[np.uint8], bands: int, rows: int) -> Hashes:
    """Hashes [documents, bands] of the rows of each band; equal rows in another band have another hash."""
    keys = np.broadcast_to(mix(np.arange(1, bands + 1, dtype=np.uint64)), (len(signatures), bands)).copy()
    banded = signatures[:, : bands * rows].reshape(len(signatures), bands, rows)
    for row in range(rows):
        keys = keys * _BASE + banded[:, :, row]
    return mix(keys)


def hash_bands(item: Item) -> Result:
    """Sort the band hashes of part ``index``."""
    layout, part = Layout.read(item["folder"]), item["index"]
    fuzzy = _fuzzy(layout)
    columns = layout.of_part(part, ["signed", "signature"])
    nodes = layout.nodes_of(part)
    first_copies = NodeArray(layout, LABELS).take(nodes) == nodes
    chosen = np.flatnonzero(first_copies & (columns["signed"] > 0))
    keys = band_keys(columns["signature"][chosen], fuzzy.bands, fuzzy.rows)
    run = {"key": keys.ravel(), "node": np.repeat(nodes[chosen], fuzzy.bands)}
    write_run(layout.path(BANDS, part), "key", run)
    return {}


def join_bands(item: Item) -> Result:
    """Compare the documents of bucket ``index`` of the band hashes, group by group."""
    layout, index = Layout.read(item["folder"]), item["index"]
    fuzzy = _fuzzy(layout)
    rows = layout.bucket(BANDS, len(layout.parts), index, layout.buckets(fuzzy.bands))
    groups = shared_groups(rows["key"], rows["node"], layout)
    compared = joined = 0
    left, right = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for piece in pieces(groups):
        signatures = layout.of_nodes(piece.nodes, ["signature"])["signature"]
        first, second = pairs(piece)
        similar = equal_rows(signatures, first, second) >= fuzzy.accepted_rows
        compared, joined = compared + len(first), joined + int(similar.sum())
        member, star = thinned(piece.nodes, first[similar], second[similar])
        left.append(member)
        right.append(star)
    nodes, others = distinct_pairs(np.concatenate(left), np.concatenate(right))
    both = {"node": np.concatenate([nodes, others]), "other": np.concatenate([others, nodes])}
    write_run(layout.path(EDGES, index), "node", both)
    largest = int(np.diff(groups.starts).max(initial=0))
    return {"compared": compared, "joined": joined, "edges": len(nodes), "largest": largest}


@dataclass(frozen=True)
class Groups:
    """Groups of documents to compare; the first ``REPRESENTATIVES`` of each are compared with all after them."""

    nodes: Nodes
    starts: Nodes
    """[groups + 1] group i is ``nodes[starts[i]:starts[i + 1]]``."""


def shared_groups(keys: Hashes, nodes: Nodes, layout: Layout) -> Groups:
    """The groups of two and more nodes with the same key, the larger ones in an order by content and key."""
    order = sort_hashes(keys)
    sizes = np.diff(group_starts(keys[order]))
    order = order[np.repeat(sizes > 1, sizes)]  # most keys are those of one document
    keys, nodes, sizes = keys[order], nodes[order], sizes[sizes > 1]
    order = np.lexsort((nodes, keys))
    keys, nodes = keys[order], nodes[order]
    large = np.flatnonzero(np.repeat(sizes > REPRESENTATIVES, sizes))
    if len(large):
        contents = layout.of_nodes(nodes[large], ["content_low"])["content_low"]
        nodes[large] = nodes[large][np.lexsort((mix(contents ^ keys[large]), keys[large]))]
    return Groups(nodes, np.concatenate([[0], np.cumsum(sizes)]))


def pieces(groups: Groups) -> Iterator[Groups]:
    """The groups in pieces of bounded size: small groups together, a large one cut, each cut with the representatives."""
    first = 0
    while first < len(groups.starts) - 1:
        begin = groups.starts[first]
        last = int(np.searchsorted(groups.starts, begin + _PIECE, side="right")) - 1
        if last > first:
            yield Groups(groups.nodes[begin : groups.starts[last]], groups.starts[first : last + 1] - begin)
            first = last
            continue
        members = groups.nodes[begin : groups.starts[first + 1]]
        for cut in range(REPRESENTATIVES, len(members), _PIECE - REPRESENTATIVES):
            nodes = np.concatenate([members[:REPRESENTATIVES], members[cut : cut + _PIECE - REPRESENTATIVES]])
            yield Groups(nodes, np.array([0, len(nodes)]))
        first += 1


def pairs(piece: Groups) -> tuple[Nodes, Nodes]:
    """Indices into ``piece.nodes`` of the pairs to compare: each member after each representative before it."""
    sizes = np.diff(piece.starts)
    places = np.arange(len(piece.nodes)) - np.repeat(piece.starts[:-1], sizes)
    counts = np.minimum(places, REPRESENTATIVES)
    second = np.repeat(np.arange(len(piece.nodes)), counts)
    ramp = np.arange(len(second)) - np.repeat(np.cumsum(counts) - counts, counts)
    return second - places[second] + ramp, second


def equal_rows(signatures: NDArray[np.uint8], first: Nodes, second: Nodes) -> NDArray[np.int64]:
    """[pairs] how many rows of their signatures are equal. Reads eight rows at a time."""
    counts = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(first), _PAIRS):
        here = slice(start, start + _PAIRS)
        equal = signatures[first[here]] == signatures[second[here]]
        # A byte of the sum counts at most permutations / 8 <= 128 equal rows, so none overflows into the next.
        lanes: Array = equal.view(np.uint64).sum(axis=1, dtype=np.uint64)
        counts.append(lanes.view(np.uint8).reshape(-1, 8).sum(axis=1, dtype=np.int64))
    return np.concatenate(counts)


def thinned(nodes: Nodes, first: Nodes, second: Nodes) -> tuple[Nodes, Nodes]:
    """Edges that connect the same nodes as the pairs do, from each node to the first of its set."""
    distinct, inverse = np.unique(nodes, return_inverse=True)
    labels = connect(inverse[first], inverse[second], len(distinct))
    member = np.flatnonzero(labels != np.arange(len(distinct)))
    return distinct[member], distinct[labels[member]]


def _fuzzy(layout: Layout) -> FuzzyConfig:
    assert layout.config.fuzzy is not None, "near duplicates are off"
    return layout.config.fuzzy
