"""Tables come back as written; a range of keys of all runs is what a filter over their rows would give."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ground.errors import CorruptError
from pipelines.dedup.tables import (
    KEYS,
    distinct_pairs,
    gather,
    group_starts,
    open_table,
    read_table,
    write_run,
    write_table,
)

UINT64 = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_columns_come_back(tmp_path: Path, rows: int) -> None:
    numbers = np.arange(rows, dtype=np.uint64) << np.uint64(60)
    block = np.arange(rows * 16, dtype=np.uint8).reshape(rows, 16)
    write_table(tmp_path / "t.arrow", {"numbers": numbers, "block": block}, {"id": ["é"] * rows}, {"kind": "x"})
    table = read_table(tmp_path / "t.arrow", ["block", "numbers"])
    assert table["numbers"].dtype == np.uint64
    assert (table["numbers"] == numbers).all()
    assert table["block"].shape == (rows, 16)
    assert (table["block"] == block).all()
    assert open_table(tmp_path / "t.arrow").column("id").to_pylist() == ["é"] * rows


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.arrow"
    write_table(path, {"a": np.arange(100)})
    with pytest.raises(CorruptError, match="no column 'b'"):
        read_table(path, ["b"])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptError, match=r"t\.arrow"):
        read_table(path)


@settings(max_examples=40)
@given(st.lists(st.lists(UINT64, max_size=20), min_size=1, max_size=4), st.integers(1, 9))
def test_buckets_of_runs_partition_their_rows(runs: list[list[int]], buckets: int) -> None:
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.arrow" for index in range(len(runs))]
        for path, keys in zip(paths, runs, strict=True):
            array = np.array(keys, dtype=np.uint64)
            write_run(path, "key", {"key": array, "copy": array})
        seen: list[int] = []
        for index in range(buckets):
            low, high = KEYS * index // buckets, KEYS * (index + 1) // buckets
            rows = gather(paths, "key", low, high)
            assert (rows["key"] == rows["copy"]).all()
            assert all(low <= key < high for key in rows["key"].tolist())
            seen += rows["key"].tolist()
        assert sorted(seen) == sorted(key for keys in runs for key in keys)


@given(arrays(np.int64, st.integers(0, 30), elements=st.integers(0, 5)))
def test_groups_are_runs_of_equal_values(values: np.ndarray) -> None:
    values.sort()
    starts = group_starts(values)
    groups = [values[a:b] for a, b in pairwise(starts.tolist())]
    assert [group[0] for group in groups] == np.unique(values).tolist()
    assert all(len(np.unique(group)) == 1 for group in groups)
    assert sum(map(len, groups)) == len(values)


@given(arrays(np.int64, st.tuples(st.just(2), st.integers(0, 30)), elements=st.integers(0, 4)))
def test_distinct_pairs_are_a_sorted_set(pairs: np.ndarray) -> None:
    first, second = distinct_pairs(pairs[0], pairs[1])
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == sorted(
        set(zip(pairs[0].tolist(), pairs[1].tolist(), strict=True))
    )
