"""Rows of columnar files: Parquet by row groups, Arrow (IPC file or stream, as `datasets` writes) by record batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ground.errors import UserError
from pipelines.readers.config import SourceReading
from pipelines.readers.rejects import Rejects
from pipelines.readers.splits import Split
from pipelines.streams import open_arrow

_BATCH_BYTES = 8 << 20
_BATCH_ROWS = 1000
_PAGE_BYTES = 1 << 20  # read column chunks bit by bit: a row group may be larger than a worker's memory
_ARROW_FILE = b"ARROW1"


def parquet_rows(
    split: Split, source: SourceReading, rejects: Rejects, field: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and values of each row of the row groups of a split.

    Raises:
        UserError: the file cannot be read, or it lacks the document's column (unless every share of bad rows is accepted).
    """
    with open_arrow(split.file, split.compression, field) as file:
        parquet = pq.ParquetFile(file, buffer_size=_PAGE_BYTES, pre_buffer=False)
        metadata = parquet.metadata
        columns = _columns(parquet.schema_arrow, split.file, source, field)
        low, high = (metadata.num_rows * (split.index + end) // split.count for end in (0, 1))
        first = 0
        for index in range(metadata.num_row_groups):
            group = metadata.row_group(index)
            if low <= first < high:
                if columns is None:
                    rejects.add("missing_column", split.file, first, rows=group.num_rows)
                else:
                    rows = _batch_rows(group.total_byte_size, group.num_rows)
                    batches = parquet.iter_batches(rows, row_groups=[index], columns=columns, use_threads=False)
                    start = first
                    for batch in batches:
                        yield from _rows(batch, start)
                        start += batch.num_rows
            first += group.num_rows


def arrow_rows(
    split: Split, source: SourceReading, rejects: Rejects, field: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and values of each row of every ``split.count``-th record batch. Local files are mapped into memory.

    Raises:
        UserError: as for Parquet.
    """
    with open_arrow(split.file, split.compression, field, mapped=True) as file:
        start = file.read(len(_ARROW_FILE))
        file.seek(0)
        if not start:
            return
        first = 0
        for index, batch in enumerate(_record_batches(file, is_file=start == _ARROW_FILE)):
            if index % split.count == split.index:
                columns = _columns(batch.schema, split.file, source, field)
                if columns is None:
                    rejects.add("missing_column", split.file, first, rows=batch.num_rows)
                else:
                    kept = batch.select(columns)
                    rows = _batch_rows(kept.nbytes, kept.num_rows)
                    for low in range(0, kept.num_rows, rows):
                        yield from _rows(kept.slice(low, rows), first + low)
            first += batch.num_rows


def _record_batches(file: pa.NativeFile, *, is_file: bool) -> Iterator[pa.RecordBatch]:
    if is_file:
        reader = pa.ipc.open_file(file)
        yield from (reader.get_batch(index) for index in range(reader.num_record_batches))
    else:
        yield from pa.ipc.open_stream(file)


def _batch_rows(size: int, rows: int) -> int:
    """How many rows of such a size to hold at a time."""
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES * rows // max(1, size)))


def _columns(schema: pa.Schema, file: str, source: SourceReading, field: str) -> list[str] | None:
    """The columns to read, or None when the document's is missing and such files are accepted."""
    name = source.messages_field or source.text_field
    field_name = "messages_field" if source.messages_field else "text_field"
    present = list(dict.fromkeys(schema.names))
    problem = None
    if schema.names.count(name) != 1:
        problem = f"{PurePosixPath(file).name} has {'no' if name not in present else 'more than one'} column {name!r}"
    elif not source.messages_field and not _may_hold_text(schema.field(name).type):
        problem = f"column {name!r} of {PurePosixPath(file).name} holds {schema.field(name).type}, not text"
    if problem is None:
        wanted = [name, *([source.id_field] if source.id_field else []), *source.metadata_fields]
        return [column for column in dict.fromkeys(wanted) if schema.names.count(column) == 1]
    if source.max_malformed_share == 1:
        return None
    raise UserError(
        f"{field}.{field_name}",
        problem,
        f"choose one of its columns ({', '.join(present) or 'it has none'}), or leave the file out of {field}.paths",
    )


def _may_hold_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return _is_string(kind) or _is_binary(kind) or pa.types.is_null(kind)


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _rows(batch: pa.RecordBatch, first: int) -> Iterator[tuple[int, dict[str, Any]]]:
    names = batch.schema.names
    for row, values in enumerate(zip(*(_values(column) for column in batch.columns), strict=True)):
        yield first + row, dict(zip(names, values, strict=True))


def _values(column: pa.Array) -> Sequence[Any]:
    """Values of a column. Strings go by way of their bytes: a string column may hold bytes that are no UTF-8."""
    if pa.types.is_dictionary(column.type):
        column.validate(full=True)
        column = column.dictionary_decode()
    if pa.types.is_string_view(column.type) or pa.types.is_binary_view(column.type):
        column = column.cast(pa.binary_view())
        column.validate(full=True)
    if _is_string(column.type) or _is_binary(column.type):
        data = column.cast(pa.large_binary())
        data.validate(full=True)  # offsets that point out of the buffer would crash the process
        return _decoded(data)
    column.validate(full=True)
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):
        # bytes in a nested string, or a time that Python cannot hold: that value is lost
        return [_value(scalar) for scalar in column]


def _decoded(data: pa.LargeBinaryArray) -> list[str | None]:
    """Texts of an array of bytes, straight from its buffers."""
    if not len(data):
        return []
    _, offset_buffer, content = data.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int64)[data.offset : data.offset + len(data) + 1].tolist()
    view = memoryview(content if content is not None else b"")
    texts: list[str | None] = [str(view[low:high], "utf-8", "replace") for low, high in pairwise(offsets)]
    if data.null_count:
        for row in np.flatnonzero(data.is_null().to_numpy(zero_copy_only=False)):
            texts[row] = None
    return texts


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return None
