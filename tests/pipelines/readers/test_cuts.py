"""Every way to cut a file gives the same documents, each exactly once."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from pipelines.readers import first_samples, plan_splits
from tests.pipelines.readers.reading import WHOLE, compress, counts, lines, pairs, read, record, response, rows, source

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ROWS = [{"id": f"row-{i}", "text": f"Document {i} says: naïve café, 発熱 and 🤒."} for i in range(2500)]
PLAIN = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@given(
    rows_=st.lists(
        st.one_of(TEXTS.map(lambda text: json.dumps({"text": text})), st.sampled_from(["", "{", "[1]", " "]))
    ),
    end=st.sampled_from(["\n", "\r\n"]),
    closed=st.booleans(),
    mark=st.booleans(),
    target=st.integers(1, 200),
    ending=st.sampled_from(["jsonl", "json", "jsonl.gz", "jsonl.zst"]),
)
@example(rows_=['{"text": "a"}'] * 3, end="\n", closed=True, mark=False, target=14, ending="jsonl")
@PLAIN
def test_lines(tmp_path: Path, rows_: list[str], end: str, closed: bool, mark: bool, target: int, ending: str) -> None:
    first = "".join(rows_).strip()[:1]
    assume(ending != "json" or (first != "[" and next((row for row in rows_ if row.strip()), "") != "{"))
    data = (b"\xef\xbb\xbf" if mark else b"") + (end.join(rows_) + end * closed).encode()
    path = tmp_path / f"a.{ending}"
    path.write_bytes(compress(data, ending))
    whole_rejects: list[Any] = []
    cut_rejects: list[Any] = []
    whole = rows(read(path, rejects=whole_rejects))
    cut = rows(read(path, target=target, rejects=cut_rejects))
    assert sorted(cut) == sorted(whole)
    if ending == "jsonl":
        assert cut == whole
    assert counts(cut_rejects) == counts(whole_rejects)
    assert sum(found.rows for found in cut_rejects) == whole_rejects[0].rows
    assert first_samples(s for found in cut_rejects for s in found.samples) == first_samples(whole_rejects[0].samples)


@given(count=st.integers(0, 60), group=st.integers(1, 20), target=st.integers(100, 3000))
@settings(PLAIN, max_examples=30)
def test_row_groups_and_record_batches(tmp_path: Path, count: int, group: int, target: int) -> None:
    texts = [f"text {i}" for i in range(count)]
    table = pa.table({"text": pa.array(texts, pa.string())})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=group)
    with pa.OSFile(str(tmp_path / "stream.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=group)
    with pa.OSFile(str(tmp_path / "file.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=group)
    for name in ("a.parquet", "stream.arrow", "file.arrow"):
        expected = [(f"{name}#{i}", text) for i, text in enumerate(texts)]
        assert sorted(pairs(read(tmp_path / name, target=target))) == sorted(expected)
        assert pairs(read(tmp_path / name)) == expected


@given(count=st.integers(0, 30), target=st.integers(1, 5000), ending=st.sampled_from(["warc", "warc.gz", "warc.zst"]))
@settings(PLAIN, max_examples=40)
def test_web_archives(tmp_path: Path, count: int, target: int, ending: str) -> None:
    records = [
        response(f"http://a/{i}", f"<p>Page {i}</p>".encode())
        if i % 2
        else record("request", f"http://a/{i}", b"", "x")
        for i in range(2 * count)
    ]
    path = tmp_path / f"a.{ending}"
    path.write_bytes(b"".join(compress(part, ending) for part in records))
    expected = [(f"http://a/{i}", f"Page {i}") for i in range(1, 2 * count, 2)]
    assert pairs(read(path)) == expected
    assert sorted(pairs(read(path, target=target))) == sorted(expected)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_lines_longer_than_a_block(tmp_path: Path, ending: str) -> None:
    """Real block sizes: a line over several splits and blocks belongs to the one it begins in."""
    texts = ["x" * size for size in (10, 3_000_000, 5, 1_500_000, 700_000, 1)]
    path = tmp_path / f"a.{ending}"
    path.write_bytes(compress(lines({"text": text} for text in texts), ending))
    for target in (WHOLE, 1 << 20, 100_000):
        assert sorted(text for _, text in pairs(read(path, target=target))) == sorted(texts)


def test_default_ids_tell_the_byte_and_do_not_depend_on_compression(tmp_path: Path) -> None:
    data = b'\xef\xbb\xbf{"text": "a"}\r\n\n{"text": "b"}\n'
    for ending in ("jsonl", "jsonl.gz", "jsonl.zst"):
        path = tmp_path / f"a.{ending}"
        path.write_bytes(compress(data, ending))
        assert pairs(read(path)) == [(f"a.{ending}#0", "a"), (f"a.{ending}#19", "b")]


def test_the_plan_covers_every_byte_and_bounds_the_cost_of_decompression() -> None:
    for size in (0, 1, 99, 100, 101, 12345):
        splits = plan_splits("mine", source(), ["a.jsonl"], [size], 100)
        assert splits[0].start == 0 and splits[-1].stop is None
        assert all(left.stop == right.start for left, right in pairwise(splits))
        assert sum(split.bytes for split in splits) == size
        assert len(splits) == max(1, -(-size // 100))
    assert len(plan_splits("mine", source(), ["a.jsonl.gz"], [10**12], 100)) == 16
    assert len(plan_splits("mine", source(), ["a.txt"], [10**9], 100)) == 1
    assert len(plan_splits("mine", source(), ["a.parquet"], [10**6], 4000)) == 1000
    files = ["a.jsonl", "b.parquet", "c.warc.gz"]
    assert [split.file for split in plan_splits("mine", source(), files, [1, 1, 1], 100)] == files


def test_documents_are_bounded_and_carry_hash_and_size(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(ROWS))
    batches = read(path)
    assert [len(batch) for batch in batches] == [1000, 1000, 500]
    assert batches[0].bytes[0] == len(ROWS[0]["text"].encode())
    path.write_bytes(lines({"text": "x" * 5_000_000} for _ in range(3)))
    assert [len(batch) for batch in read(path)] == [2, 1]
