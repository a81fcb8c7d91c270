"""Copies by content hash: both halves of it count."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.dedup import DedupConfig, SignedPart
from pipelines.dedup.exact import LABELS, label_contents, match_contents, sort_contents
from pipelines.dedup.layout import Layout, NodeArray
from pipelines.dedup.tables import write_table

HALVES = st.sampled_from([0, 1, 2**63, 2**64 - 1])


@settings(max_examples=25)
@given(st.lists(st.lists(st.tuples(HALVES, HALVES), max_size=12), min_size=1, max_size=3), st.integers(4, 30))
def test_a_label_is_the_first_node_with_the_content(parts: list[list[tuple[int, int]]], task_rows: int) -> None:
    with TemporaryDirectory() as folder:
        signed = []
        for index, part in enumerate(parts):
            contents = np.array(part, dtype=np.uint64).reshape(-1, 2)
            columns = {"content_high": contents[:, 0], "content_low": contents[:, 1]}
            write_table(Path(folder) / str(index) / "signatures.arrow", columns)
            signed.append(SignedPart(f"{folder}/{index}", len(part), "s"))
        layout = Layout(Path(folder), tuple(signed), ("s",), DedupConfig(), task_rows)
        layout.write()
        counts = (len(parts), layout.buckets(1), layout.partitions)
        for task, count in zip((sort_contents, match_contents, label_contents), counts, strict=True):
            for index in reversed(range(count)):
                task({"folder": folder, "index": index})
        labels = NodeArray(layout, LABELS).take(np.arange(layout.rows)).tolist()
    contents = [content for part in parts for content in part]
    assert labels == [contents.index(content) for content in contents]
