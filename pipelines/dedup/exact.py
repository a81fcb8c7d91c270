"""Exact copies: the same content hash. Each document gets a label, the first node with its content.

sort_contents (a part)   -> run of (hash, node), sorted by hash
match_contents (a bucket) -> (node, first node) of every copy, sorted by node
label_contents (a partition) -> first node of each node's content
"""

from __future__ import annotations

import numpy as np

from pipelines.dedup.layout import Item, Layout, Result
from pipelines.dedup.tables import gather, group_starts, write_run, write_table

CONTENTS, COPIES, LABELS = "contents", "copies", "content-labels"
KEYS_A_DOCUMENT = 1


def sort_contents(item: Item) -> Result:
    """Sort the content hashes of part ``index``."""
    layout, part = Layout.read(item["folder"]), item["index"]
    columns = layout.of_part(part, ["content_high", "content_low"])
    nodes = layout.nodes_of(part)
    run = {"key": columns["content_high"], "low": columns["content_low"], "node": nodes}
    write_run(layout.path(CONTENTS, part), "key", run)
    return {}


def match_contents(item: Item) -> Result:
    """Find the copies in bucket ``index`` of the content hashes."""
    layout, index = Layout.read(item["folder"]), item["index"]
    rows = layout.bucket(CONTENTS, len(layout.parts), index, layout.buckets(KEYS_A_DOCUMENT))
    order = np.lexsort((rows["node"], rows["low"], rows["key"]))
    key, low, node = (rows[name][order] for name in ("key", "low", "node"))
    starts = np.union1d(group_starts(key), group_starts(low))
    first = np.repeat(node[starts[:-1]], np.diff(starts))
    copies = node != first
    write_run(layout.path(COPIES, index), "node", {"node": node[copies], "label": first[copies]})
    return {"copies": int(copies.sum())}


def label_contents(item: Item) -> Result:
    """Tell the nodes of partition ``index`` the first node with their content."""
    layout, index = Layout.read(item["folder"]), item["index"]
    low, high = layout.partition(index)
    copies = gather(layout.paths(COPIES, layout.buckets(KEYS_A_DOCUMENT)), "node", low, high)
    labels = np.arange(low, high)
    labels[copies["node"] - low] = copies["label"]
    write_table(layout.path(LABELS, index), {"label": labels})
    return {}
