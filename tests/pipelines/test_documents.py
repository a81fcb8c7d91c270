"""Readers: every format gives the same documents, bad rows are counted, bad files are one clear line."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from blake3 import blake3
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ground.errors import UserError
from pipelines.config import SourceConfig
from pipelines.documents import Documents, expand_paths, file_digest, largest_hash, read_documents

ROWS = [{"id": f"row-{i}", "text": f"Document {i} says: naïve café, 発熱 and 🤒."} for i in range(2500)]


def _source(**fields: Any) -> SourceConfig:
    return SourceConfig(role="general", paths=("unused",), **fields)


def _read(path: Path | str, counts: Counter[str] | None = None, **fields: Any) -> list[tuple[str, str]]:
    batches = read_documents(str(path), _source(**fields), counts if counts is not None else Counter())
    return [pair for batch in batches for pair in zip(batch.ids, batch.texts, strict=True)]


def _lines(*lines: bytes) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _jsonl() -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def _files(folder: Path) -> Iterator[Path]:
    data = _jsonl()
    half = data.index(b"\n", len(data) // 2) + 1
    written = {
        "a.jsonl": data,
        "a.ndjson": data.rstrip(b"\n"),
        "a.json.gz": gzip.compress(data),
        "two-members.jsonl.gz": gzip.compress(data[:half]) + gzip.compress(data[half:]),
        "A.JSONL.ZST": zstandard.compress(data),
        "two-frames.jsonl.zst": zstandard.compress(data[:half]) + zstandard.compress(data[half:]),
        "[odd]*.jsonl": data,
    }
    for name, content in written.items():
        (folder / name).write_bytes(content)
        yield folder / name
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, folder / "a.parquet", row_group_size=700)
    yield folder / "a.parquet"
    encoded = pa.table({"id": table["id"].dictionary_encode(), "text": table["text"].cast(pa.large_string())})
    pq.write_table(encoded, folder / "b.parquet")
    yield folder / "b.parquet"


def test_every_format_gives_the_same_documents(tmp_path: Path) -> None:
    expected = [(row["id"], row["text"]) for row in ROWS]
    for path in _files(tmp_path):
        counts: Counter[str] = Counter()
        assert _read(path, counts) == expected, path.name
        assert not counts


def test_batches_are_bounded_and_carry_hash_and_size(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(_jsonl())
    batches = list(read_documents(str(path), _source(), Counter(), batch_documents=1024))
    assert [len(batch) for batch in batches] == [1024, 1024, 452]
    data = ROWS[0]["text"].encode()
    assert (batches[0].hashes[0], batches[0].bytes[0]) == (blake3(data).hexdigest(16), len(data))


def test_large_documents_come_in_small_batches(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": "x" * 5_000_000}) + "\n" for _ in range(3)))
    assert [len(batch) for batch in read_documents(str(path), _source(), Counter())] == [2, 1]


def test_text_file_is_one_document(tmp_path: Path) -> None:
    path = tmp_path / "note.txt.gz"
    path.write_bytes(gzip.compress(b"two\nlines \xff"))
    assert _read(path) == [("note.txt.gz", "two\nlines \ufffd")]


def test_rows_without_a_document_are_counted_by_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        _lines(
            b'\xef\xbb\xbf{"text": "after a byte order mark"}',
            b"{not json",
            b"",
            b'{"text": 7}',
            b'{"other": "x"}',
            b"[1, 2]",
            b'"text"',
            b"[" * 100_000,
            b'{"text": "fine", "id": 12}',
            b'{"text": "bad \xff byte", "id": ""}',
            b'{"text": "half \\ud83d, whole \\ud83d\\ude00", "id": true}',
        )
    )
    counts: Counter[str] = Counter()
    assert _read(path, counts) == [
        ("a.jsonl#0", "after a byte order mark"),
        ("12", "fine"),
        ("a.jsonl#9", "bad \ufffd byte"),
        ("a.jsonl#10", "half \ufffd, whole \U0001f600"),
    ]
    assert counts == {"malformed_json": 2, "missing_text": 4}


def test_parquet_bytes_that_are_no_text_are_replaced_and_nulls_counted(tmp_path: Path) -> None:
    data = pa.array([b"good", b"bad \xff", None], pa.binary())
    invalid = pa.Array.from_buffers(pa.string(), 3, data.buffers())
    pq.write_table(pa.table({"body": invalid, "n": [4, 5, 6]}), tmp_path / "a.parquet")
    counts: Counter[str] = Counter()
    assert _read(tmp_path / "a.parquet", counts, text_field="body", id_field="n") == [
        ("4", "good"),
        ("5", "bad \ufffd"),
    ]
    assert counts == {"missing_text": 1}


def test_parquet_column_of_numbers_holds_no_document(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [1.5, 2.5]}), tmp_path / "a.parquet")
    counts: Counter[str] = Counter()
    assert _read(tmp_path / "a.parquet", counts) == []
    assert counts == {"missing_text": 2}


def test_parquet_without_the_column_is_one_clear_line(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "a.parquet")
    message = r"^sources\.mine\.text_field: a\.parquet has no column 'text'; choose one of its columns: body$"
    with pytest.raises(UserError, match=message):
        list(read_documents(str(tmp_path / "a.parquet"), _source(), Counter(), "sources.mine"))


@pytest.mark.parametrize("ending", ["jsonl.gz", "jsonl.zst", "parquet"])
def test_a_truncated_file_is_an_error_not_an_end(tmp_path: Path, ending: str) -> None:
    whole = {"jsonl.gz": gzip.compress(_jsonl()), "jsonl.zst": zstandard.compress(_jsonl())}
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "whole.parquet")
        whole[ending] = (tmp_path / "whole.parquet").read_bytes()
    path = tmp_path / f"cut.{ending}"
    path.write_bytes(whole[ending][:-100])
    with pytest.raises(UserError, match=r"^sources\.mine\.paths: cannot read .*cut\."):
        list(read_documents(str(path), _source(), Counter(), "sources.mine"))


@given(data=st.binary(), ending=st.sampled_from(["jsonl", "json.gz", "jsonl.zst", "parquet", "txt", "bin"]))
@example(data=b"PAR1PAR1", ending="parquet")
@example(data=b"\x1f\x8b\x08\x00", ending="json.gz")
@example(data=b"\x28\xb5\x2f\xfd", ending="jsonl.zst")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_arbitrary_bytes_give_documents_or_a_user_error(tmp_path: Path, data: bytes, ending: str) -> None:
    path = tmp_path / f"file.{ending}"
    path.write_bytes(data)
    with contextlib.suppress(UserError):
        for _, text in _read(path):
            text.encode()


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_damaged_files_give_documents_or_a_user_error(tmp_path: Path, data: st.DataObject) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS[:20]), tmp_path / "whole.parquet")
    wholes = {
        "parquet": (tmp_path / "whole.parquet").read_bytes(),
        "jsonl.zst": zstandard.compress(_jsonl()),
        "jsonl.gz": gzip.compress(_jsonl()),
    }
    ending = data.draw(st.sampled_from(sorted(wholes)))
    content = bytearray(wholes[ending])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"damaged.{ending}"
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        _read(path)


def test_limit_takes_the_smallest_hashes_whatever_the_order(tmp_path: Path) -> None:
    parts = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for part, rows in zip(parts, (ROWS[:900], ROWS[900:]), strict=True):
        part.write_text("".join(json.dumps(row) + "\n" for row in rows))
    files, source = [str(part) for part in parts], _source(max_documents=300)
    limit = largest_hash(files, source)
    assert limit == largest_hash(files[::-1], source)
    batches = [batch for file in files for batch in read_documents(file, source, Counter(), largest=limit)]
    chosen = {text for batch in batches for text in batch.texts}
    assert chosen == set(sorted((row["text"] for row in ROWS), key=lambda text: blake3(text.encode()).digest())[:300])
    assert len(_read(files[0], max_documents=10)) == 10
    assert largest_hash(files, _source()) is None
    assert largest_hash(files, _source(max_documents=5000)) is None


def test_url_reads_like_a_file() -> None:
    files = fsspec.filesystem("memory")
    files.pipe({"/corpus/a.jsonl.gz": gzip.compress(_jsonl()), "/corpus/.hidden.jsonl": b"", "/corpus/README": b""})
    try:
        for address in ("memory://corpus", "memory://corpus/*.gz", "memory://corpus/a.jsonl.gz"):
            (found,) = expand_paths([address], "sources.mine.paths")
            assert found == "memory:///corpus/a.jsonl.gz" or found == "memory://corpus/a.jsonl.gz"
            assert len(_read(found)) == len(ROWS)
        with pytest.raises(UserError, match=r"^sources\.mine\.paths: there is no file 'memory://corpus/b\.jsonl'"):
            expand_paths(["memory://corpus/b.jsonl"], "sources.mine.paths")
        with pytest.raises(UserError, match=r"^sources\.mine\.paths: 'memory://corpus/\*\.txt' matches no file"):
            expand_paths(["memory://corpus/*.txt"], "sources.mine.paths")
    finally:
        files.rm("/corpus", recursive=True)


@pytest.mark.parametrize("name", ["a.csv", "a", "a.gz"])
def test_unknown_ending_is_one_clear_line_unless_the_format_is_given(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"words") if name.endswith("gz") else b"words")
    with pytest.raises(UserError, match=r"^sources\.mine\.format: the ending of .* tells no format"):
        list(read_documents(str(path), _source(), Counter(), "sources.mine"))
    assert _read(path, format="text") == [(name, "words")]


def test_file_digest_is_of_the_stored_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    assert file_digest(str(tmp_path / "a")) == blake3(b"x" * 3_000_000).hexdigest(16)
    with pytest.raises(UserError, match=r"^sources\.mine\.paths: cannot read "):
        file_digest(str(tmp_path / "b"), "sources.mine")


def test_a_batch_knows_its_length() -> None:
    assert len(Documents(["a"], ["b"], ["c"], [1])) == 1
