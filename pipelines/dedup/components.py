"""Connected components over files: FastSV (Zhang, Azad and Buluç 2020), each round one task a partition of the nodes.

    collect_edges (a partition) -> its edges (node, other), each once
    round-0000, round-0001, ... (a partition) -> labels, and proposals to other nodes

Labels start as node numbers and only fall; at the end each is the smallest number of its component. In a round, with f the
labels of the round before and g[v] = f[f[v]], every edge (u, v) lowers f[u] to g[v] and proposes g[v] to the node f[u], which
is what joins two trees at their roots; every node takes g[u], which halves the height of its tree. A task
reads labels of other partitions by memory mapping, and takes the proposals that the round before made to its own nodes.
When a round changes no label and proposes nothing, f is flat and equal across every edge, so it is done. Paths, stars and
random graphs of n nodes take O(log n) rounds.
"""

from __future__ import annotations

import numpy as np

from pipelines.dedup.layout import Item, Layout, NodeArray, Result
from pipelines.dedup.tables import Nodes, distinct_pairs, gather, read_table, write_run, write_table

COLLECTED = "collected"


def connect(first: Nodes, second: Nodes, nodes: int) -> Nodes:
    """[nodes] the smallest node of each node's component, for edges that fit in memory."""
    labels = np.arange(nodes)
    while True:
        above = labels[labels]
        lower = above.copy()
        for u, v in ((first, second), (second, first)):
            np.minimum.at(lower, labels[u], above[v])
            np.minimum.at(lower, u, above[v])
        if np.array_equal(lower, labels):
            return labels
        labels = lower


def labels_of(round_: int) -> str:
    """Phase that holds the labels after a round."""
    return f"round-{round_:04d}"


def _proposals_of(round_: int) -> str:
    return f"proposals-{round_:04d}"


def collect_edges(item: Item) -> Result:
    """Gather the edges of the nodes of partition ``index`` from the ``runs`` files of the phase ``edges``."""
    layout, index = Layout.read(item["folder"]), item["index"]
    edges = gather(layout.paths(item["edges"], item["runs"]), "node", *layout.partition(index))
    node, other = distinct_pairs(edges["node"], edges["other"])
    write_table(layout.path(COLLECTED, index), {"node": node, "other": other})
    return {"edges": len(node)}


def propagate(item: Item) -> Result:
    """One ``round`` for partition ``index``; returns how much it changed."""
    layout, index, round_ = Layout.read(item["folder"]), item["index"], item["round"]
    low, high = layout.partition(index)
    before = NodeArray(layout, labels_of(round_ - 1) if round_ else None)
    old = before.take(np.arange(low, high))
    new = old.copy()
    if round_:
        proposed = gather(layout.paths(_proposals_of(round_ - 1), layout.partitions), "target", low, high)
        np.minimum.at(new, proposed["target"] - low, proposed["label"])
    low_nodes = np.flatnonzero(old != np.arange(low, high))
    new[low_nodes] = np.minimum(new[low_nodes], before.take(old[low_nodes]))
    edges = read_table(layout.path(COLLECTED, index))
    mine, above = old[edges["node"] - low], before.take(before.take(edges["other"]))
    np.minimum.at(new, edges["node"] - low, above)
    useful = above < before.take(mine)
    targets, labels = _smallest(mine[useful], above[useful])
    write_table(layout.path(labels_of(round_), index), {"label": new})
    write_run(layout.path(_proposals_of(round_), index), "target", {"target": targets, "label": labels})
    return {"changed": int((new != old).sum()) + len(targets)}


def _smallest(targets: Nodes, labels: Nodes) -> tuple[Nodes, Nodes]:
    """Each target once, with the smallest of its labels."""
    order = np.lexsort((labels, targets))
    distinct, first = np.unique(targets[order], return_index=True)
    return distinct, labels[order][first]
