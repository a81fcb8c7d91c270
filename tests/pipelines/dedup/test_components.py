"""Components over files against SciPy's, and the number of rounds they take."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pipelines.dedup import DedupConfig, SignedPart
from pipelines.dedup.components import collect_edges, connect, labels_of, propagate
from pipelines.dedup.drive import connect_nodes
from pipelines.dedup.layout import Layout, NodeArray
from pipelines.dedup.tables import Nodes, write_run
from tests.pipelines.dedup.corpus import LocalRun


def smallest_members(first: Nodes, second: Nodes, nodes: int) -> Nodes:
    """SciPy's components, each named by its smallest node."""
    matrix = coo_matrix((np.ones(len(first)), (first, second)), shape=(nodes, nodes))
    _, labels = connected_components(matrix, directed=False)
    _, smallest = np.unique(labels, return_index=True)
    return smallest[labels].astype(np.int64)


def over_files(
    folder: Path, first: Nodes, second: Nodes, nodes: int, task_rows: int, runs: int = 2
) -> tuple[Nodes, int]:
    """Labels and rounds by the tasks."""
    layout = Layout(folder, (SignedPart("", nodes, "s"),), ("s",), DedupConfig(), task_rows)
    layout.write()
    for run in range(runs):
        a, b = first[run::runs], second[run::runs]
        both = {"node": np.concatenate([a, b]), "other": np.concatenate([b, a])}
        write_run(layout.path("edges", run), "node", both)
    execute = LocalRun()
    items = [{"folder": str(folder), "index": i, "edges": "edges", "runs": runs} for i in range(layout.partitions)]
    execute("collected", collect_edges, items)
    rounds = connect_nodes(layout, execute)
    return NodeArray(layout, labels_of(rounds - 1)).take(np.arange(nodes)), rounds


PAIRS = st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=60)


@settings(max_examples=25)
@given(PAIRS, st.integers(5, 50))
def test_labels_are_the_smallest_nodes_for_any_partition(pairs: list[tuple[int, int]], task_rows: int) -> None:
    first, second = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1))
    wanted = smallest_members(first, second, 40)
    assert (connect(first, second, 40) == wanted).all()
    with TemporaryDirectory() as folder:
        labels, _ = over_files(Path(folder), first, second, 40, task_rows)
    assert (labels == wanted).all()


def graph(name: str, nodes: int) -> tuple[Nodes, Nodes]:
    rng = np.random.default_rng(1)
    line = np.arange(nodes)
    if name == "path":
        return line[:-1], line[1:]
    if name == "shuffled path":
        order = rng.permutation(nodes)
        return order[:-1], order[1:]
    if name == "star":
        return np.full(nodes - 1, nodes - 1), line[:-1]
    if name == "zigzag":  # neighbours far apart in number: 0, n - 1, 1, n - 2, ...
        order = np.stack([line, line[::-1]], axis=1).ravel()[:nodes]
        return order[:-1], order[1:]
    if name == "tree":
        return line[1:], (line[1:] - 1) // 2
    return rng.integers(0, nodes, nodes), rng.integers(0, nodes, nodes)


@pytest.mark.parametrize("name", ["path", "shuffled path", "star", "zigzag", "tree", "random"])
def test_rounds_grow_with_the_logarithm(tmp_path: Path, name: str) -> None:
    rounds = {}
    for nodes in (1_000, 30_000):
        first, second = graph(name, nodes)
        labels, rounds[nodes] = over_files(tmp_path / str(nodes), first, second, nodes, nodes // 3)
        assert (labels == smallest_members(first, second, nodes)).all()
        assert rounds[nodes] <= 2 * math.log2(nodes) + 2
    assert rounds[30_000] <= rounds[1_000] + 2 * math.log2(30) + 1


def test_a_round_done_again_writes_the_same(tmp_path: Path) -> None:
    first, second = graph("shuffled path", 200)
    over_files(tmp_path, first, second, 200, 64)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.arrow")}
    for round_ in (3, 1, 0, 2):
        for index in range(4):
            propagate({"folder": str(tmp_path), "index": index, "round": round_})
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.arrow")}
