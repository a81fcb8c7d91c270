"""Parquet and Arrow: columns to rows, wrong schemas, bytes that are no text."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from ground.errors import UserError
from pipelines.readers import Rejects
from tests.pipelines.readers.reading import counts, pairs, read

ROWS = [{"id": f"row-{i}", "text": f"Document {i} says: naïve café, 発熱 and 🤒."} for i in range(2500)]
EXPECTED = [(row["id"], row["text"]) for row in ROWS]
ENDINGS = ["parquet", "arrow", "feather"]


def write(table: pa.Table, path: Path) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=700)
    elif path.suffix == ".feather":
        pyarrow.feather.write_feather(table, path, chunksize=700)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=700)
    return path


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "binary", "dictionary"])
def test_every_kind_of_string_is_text(tmp_path: Path, ending: str, kind: str) -> None:
    table = pa.Table.from_pylist(ROWS)
    column = table["text"].combine_chunks()
    column = column.dictionary_encode() if kind == "dictionary" else column.cast(getattr(pa, kind)())
    path = write(table.set_column(1, "text", column), tmp_path / f"a.{ending}")
    found: list[Rejects] = []
    assert pairs(read(path, rejects=found)) == EXPECTED
    assert found[0].rows == len(ROWS) and not found[0].counts


@pytest.mark.parametrize("ending", ENDINGS)
def test_bytes_that_are_no_text_are_replaced_and_nulls_counted(tmp_path: Path, ending: str) -> None:
    data = pa.array([b"good", b"bad \xff", None, b""], pa.binary())
    invalid = pa.Array.from_buffers(pa.string(), 4, data.buffers())
    path = write(pa.table({"body": invalid, "n": [4, 5, 6, 7]}), tmp_path / f"a.{ending}")
    found: list[Rejects] = []
    documents = pairs(read(path, rejects=found, text_field="body", id_field="n"))
    assert documents == [("4", "good"), ("5", "bad \ufffd"), ("7", "")]
    assert counts(found) == {"missing_text": 1}
    assert found[0].samples[0]["position"] == 2


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_with_a_wrong_schema_is_named_unless_all_is_accepted(tmp_path: Path, ending: str) -> None:
    good = write(pa.Table.from_pylist(ROWS[:10]), tmp_path / f"good.{ending}")
    for name, table, problem in [
        ("none", pa.table({"body": ["x"]}), "has no column 'text'; choose one of its columns \\(body\\)"),
        ("numbers", pa.table({"text": [1.5, 2.5]}), "holds double, not text"),
        ("twice", pa.table([["a"], ["b"]], names=["text", "text"]), "has more than one column 'text'"),
    ]:
        if name == "twice" and ending == "feather":
            continue  # cannot be written
        path = write(table, tmp_path / f"{name}.{ending}")
        with pytest.raises(UserError, match=rf"^sources\.mine\.text_field: .*{name}\.{ending}.*") as error:
            read(path)
        assert error.match(problem)
        found: list[Rejects] = []
        assert read(path, rejects=found, max_malformed_share=1.0) == []
        assert counts(found) == {"missing_column": table.num_rows}
        assert found[0].rows == table.num_rows
    assert pairs(read(good, max_malformed_share=1.0)) == EXPECTED[:10]


@pytest.mark.parametrize("ending", ENDINGS)
def test_conversations_and_metadata(tmp_path: Path, ending: str) -> None:
    when = datetime(2024, 5, 6, tzinfo=UTC)
    talk = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
    table = pa.table(
        {
            "talk": [talk, None, []],
            "when": pa.array([when, None, None], pa.timestamp("us", "UTC")),
            "blob": pa.array([b"\xff", None, None]),
            "tags": [["a", "b"], None, []],
        }
    )
    path = write(table, tmp_path / f"a.{ending}")
    found: list[Rejects] = []
    fields = ("when", "blob", "tags", "absent")
    (batch,) = read(path, rejects=found, messages_field="talk", metadata_fields=fields)
    assert batch.texts == ["Why?\n\nBecause."]
    assert batch.ids == [f"a.{ending}#0"]
    assert batch.metadata == ['{"blob":"\ufffd","tags":["a","b"],"when":"2024-05-06 00:00:00+00:00"}']
    assert counts(found) == {"malformed_messages": 2}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_value_that_python_cannot_hold_loses_only_itself(tmp_path: Path, ending: str) -> None:
    times = pa.array([0, 2**62], pa.timestamp("us"))
    path = write(pa.table({"text": ["a", "b"], "when": times}), tmp_path / f"a.{ending}")
    (batch,) = read(path, metadata_fields=("when",))
    assert batch.metadata == ['{"when":"1970-01-01 00:00:00"}', None]


@pytest.mark.parametrize("ending", ENDINGS)
def test_large_rows_come_in_small_batches(tmp_path: Path, ending: str) -> None:
    table = pa.table({"text": ["x" * 5_000_000] * 5})
    assert [len(batch) for batch in read(write(table, tmp_path / f"a.{ending}"))] == [2, 2, 1]


def test_a_compressed_parquet_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "a.parquet.gz").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"^sources\.mine\.paths: .*a\.parquet\.gz cannot be read in parts; decompress it"
    ):
        read(tmp_path / "a.parquet.gz")


def test_offsets_that_point_out_of_the_buffer_are_an_error_not_a_crash(tmp_path: Path) -> None:
    path = write(pa.table({"text": ["ab", "cd"]}), tmp_path / "a.arrow")
    right, wrong = (np.array([0, 2, end], np.int32).tobytes() for end in (4, 1 << 30))
    data = path.read_bytes()
    assert data.count(right) == 1
    path.write_bytes(data.replace(right, wrong))
    with pytest.raises(UserError, match=r"^sources\.mine\.paths: cannot read .*a\.arrow"):
        read(path)
