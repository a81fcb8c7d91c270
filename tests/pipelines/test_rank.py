"""Runs, ranges and shards: however documents are cut into parts and ranges, the same stream comes out."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.rank import SCORE_BIN, bounds, make_shard, sort_range
from pipelines.runs import Run, write_run
from pipelines.store import Shard, shard_stem

Document = dict[str, Any]

documents = st.lists(
    st.fixed_dictionaries(
        {
            "score": st.sampled_from([0.0, 0.5, 1.0, 2.5, float("inf")]),
            "hash": st.sampled_from(["0a", "1b", "2c", "3d"]),
            "id": st.sampled_from(["x", "y"]),
            "metadata": st.sampled_from([None, '{"a": 1}']),
            "length": st.integers(1, 9),
            "drop": st.booleans(),
        }
    ),
    min_size=1,
    max_size=16,
)


def numbered(found: list[Document]) -> list[Document]:
    """Tokens that tell documents apart where their keys do."""
    return [d | {"tokens": np.full(d["length"], hash_of(d), dtype=np.uint32)} for d in found]


def hash_of(document: Document) -> int:
    """A token for each (score, hash, id, metadata)."""
    key = (document["score"], document["hash"], document["id"], document["metadata"] or "")
    return sum(ord(c) * (i + 1) for i, c in enumerate(repr(key))) % 60000


def sorting(document: Document) -> tuple[float, str, str, str, int]:
    return (document["score"], document["hash"], document["id"], document["metadata"] or "", document["length"])


def write_part(folder: Path, part: list[Document], masked: bool) -> tuple[str, str, dict[str, Any]]:
    """One run and the array of reasons of its rows."""
    folder.mkdir(parents=True)
    table = pa.table(
        {
            "score": pa.array([d["score"] for d in part], pa.float64()),
            "hash": pa.array([d["hash"] for d in part], pa.string()),
            "id": pa.array([d["id"] for d in part], pa.string()),
            "metadata": pa.array([d["metadata"] for d in part], pa.string()),
            "bytes": pa.array([d["length"] for d in part], pa.int64()),
            "row": pa.array(range(len(part)), pa.int64()),
        }
    )
    targets = [d["tokens"] % 2 == 0 for d in part] if masked else None
    result = write_run(folder, "train", table, [d["tokens"] for d in part], targets)
    np.save(folder / "dropped.npy", np.array([d["drop"] for d in part], dtype=np.uint8))
    return str(folder), str(folder / "dropped.npy"), result


def stream(
    folder: Path, parts: list[list[Document]], target: int, shard_tokens: int, masked: bool
) -> tuple[bytes, bytes]:
    """Everything from runs to shards; tokens and targets of the stream."""
    written = [write_part(folder / f"run{i}", part, masked) for i, part in enumerate(parts)]
    samples = [sample for _, _, result in written for sample in result["samples"]]
    common = {"runs": [run for run, _, _ in written], "split": "train"}
    offsets, ranges, tokens = [], [], 0
    for i, (low, high) in enumerate(bounds(samples, sum(map(len, parts)), target)):
        ranged = folder / f"range{i}"
        ranged.mkdir()
        item = common | {"dropped": [mask for _, mask, _ in written], "low": low, "high": high}
        offsets.append(tokens)
        tokens += sort_range(item, ranged)["tokens"]
        ranges.append(str(ranged))
    shards = []
    for index in range(-(-tokens // shard_tokens)):
        item = common | {
            "source": "s",
            "index": index,
            "shard_tokens": shard_tokens,
            "dtype": "uint32",
            "ranges": ranges,
            "first_token": 0,
        }
        shards.append(Shard.model_validate(make_shard(item, folder)["shard"]))
    stems = [shard_stem(folder, "s", "train", index) for index in range(len(shards))]
    joined = b"".join(stem.with_suffix(".tokens").read_bytes() for stem in stems)
    targets = b"".join(stem.with_suffix(".targets").read_bytes() for stem in stems) if masked else b""
    return joined, targets


@settings(max_examples=30)
@given(
    found=documents, cuts=st.integers(1, 4), target=st.integers(1, 12), shard=st.integers(2, 40), masked=st.booleans()
)
def test_the_stream_is_the_sorted_documents(
    found: list[Document], cuts: int, target: int, shard: int, masked: bool
) -> None:
    found = numbered(found)
    kept = sorted((d for d in found if not d["drop"]), key=sorting)
    parts = [found[i::cuts] for i in range(cuts)]
    with tempfile.TemporaryDirectory() as scratch:
        tokens, targets = stream(Path(scratch), [part for part in parts if part], target, shard, masked)
    # Documents with equal keys hold equal texts; only here may their lengths differ, so their order is left open.
    expected = np.concatenate([d["tokens"] for d in kept]) if kept else np.empty(0, np.uint32)
    np.testing.assert_array_equal(np.frombuffer(tokens, dtype="<u4"), expected)
    if masked:
        np.testing.assert_array_equal(np.frombuffer(targets, np.uint8), expected % 2 == 0)


@settings(max_examples=30)
@given(
    found=documents, low=st.sampled_from([None, (0.5, "1b"), (1.0, "0a")]), high=st.sampled_from([None, (2.5, "2c")])
)
def test_a_range_of_a_run_is_what_lies_between_its_bounds(found: list[Document], low: Any, high: Any) -> None:
    found = numbered(found)
    with tempfile.TemporaryDirectory() as scratch:
        write_part(Path(scratch) / "run", found, masked=False)
        between = Run(Path(scratch) / "run", "train").between(low, high)
        rows = list(zip(between.column("score").to_pylist(), between.column("hash").to_pylist(), strict=True))
    expected = sorted(
        (d["score"], d["hash"])
        for d in found
        if (low is None or (d["score"], d["hash"]) >= low) and (high is None or (d["score"], d["hash"]) < high)
    )
    assert rows == expected


def test_the_histogram_counts_documents_and_tokens(tmp_path: Path) -> None:
    part = numbered(
        [
            {"score": score, "hash": f"{i}", "id": "x", "metadata": None, "length": 3, "drop": False}
            for i, score in enumerate([0.01, 0.04, 0.06, -0.01, float("inf")])
        ]
    )
    run, mask, _ = write_part(tmp_path / "run", part, masked=False)
    item = {"runs": [run], "dropped": [mask], "split": "train", "low": None, "high": None}
    result = sort_range(item, tmp_path)
    assert SCORE_BIN == 0.05
    assert result["scores"] == {"-1": [1, 3], "0": [2, 6], "1": [1, 3]}
    assert (result["documents"], result["tokens"]) == (5, 15)


def test_bounds_cover_everything_once() -> None:
    cuts = bounds([[0.5, "b"], [0.5, "a"], [1.0, "c"], [2.0, "d"]], 1000, target=300)
    assert cuts[0][0] is None and cuts[-1][1] is None and len(cuts) == 4
    assert all(before[1] == after[0] for before, after in itertools.pairwise(cuts))
    assert bounds([], 0) == [(None, None)]
