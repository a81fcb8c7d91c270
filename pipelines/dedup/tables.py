"""Columns of numbers in one file, read by memory mapping: uncompressed Arrow of a single record batch.

A sorted run is such a table sorted by one column. A range of its keys is a contiguous slice, found by binary search,
which touches a few pages only; the same range of all runs is what one task works on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ground.errors import CorruptError
from ground.files import write_atomic
from pipelines.words import sort_hashes

Array = NDArray[Any]
Nodes = NDArray[np.int64]
"""Documents by number: row r of part p is ``offsets[p] + r``."""
Columns = dict[str, Array]

KEYS = 1 << 64
"""Size of the space of hashed keys."""
_MEND = "remove the folder and run the command again"


def write_table(
    path: Path,
    columns: Mapping[str, Array],
    strings: Mapping[str, Sequence[str]] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write columns of equal length atomically.

    Args:
        columns: arrays [rows] of numbers or [rows, width] of bytes.
        strings: columns of text.
    """
    arrays = {name: _to_arrow(values) for name, values in columns.items()}
    arrays |= {name: pa.array(values, pa.large_string()) for name, values in (strings or {}).items()}
    batch = pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))
    batch = batch.replace_schema_metadata(dict(metadata or {}))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    write_atomic(path, sink.getvalue().to_pybytes())


def open_table(path: Path) -> pa.RecordBatch:
    """The whole table, memory-mapped.

    Raises:
        CorruptError: the file is damaged.
        FileNotFoundError: it is not there.
    """
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    except pa.ArrowInvalid as error:
        raise CorruptError(str(path), f"is no complete table ({error})", _MEND) from error


def read_table(path: Path, names: Iterable[str] | None = None) -> Columns:
    """Columns of numbers or bytes as read-only views of the file.

    Raises:
        CorruptError: the file is damaged or lacks a column.
    """
    batch = open_table(path)
    wanted = list(names) if names is not None else batch.schema.names
    missing = [name for name in wanted if name not in batch.schema.names]
    if missing:
        raise CorruptError(str(path), f"has no column {missing[0]!r}", _MEND)
    return {name: _to_numpy(batch.column(name)) for name in wanted}


def write_run(path: Path, key: str, columns: Mapping[str, Array]) -> None:
    """Write a table sorted by the column ``key``."""
    keys = columns[key]
    order = sort_hashes(keys) if keys.dtype == np.uint64 else np.argsort(keys, kind="stable")
    write_table(path, {name: values[order] for name, values in columns.items()})


def gather(runs: Iterable[Path], key: str, low: int, high: int) -> Columns:
    """The rows with ``low <= key < high`` of all runs, joined (not sorted)."""
    slices = []
    for path in runs:
        table = read_table(path)
        keys = table[key]
        start, stop = (
            len(keys) if edge >= KEYS else np.searchsorted(keys, keys.dtype.type(edge)) for edge in (low, high)
        )
        slices.append({name: values[start:stop] for name, values in table.items()})
    return {name: np.concatenate([piece[name] for piece in slices]) for name in slices[0]}


def group_starts(keys: Array) -> Nodes:
    """[groups + 1] where each run of equal values of a sorted array starts, and the array's length at the end."""
    if not len(keys):
        return np.zeros(1, dtype=np.int64)
    changes = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    return np.concatenate([[0], changes, [len(keys)]]).astype(np.int64)


def distinct_pairs(first: Nodes, second: Nodes) -> tuple[Nodes, Nodes]:
    """The pairs sorted, each once."""
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    new = np.ones(len(first), dtype=np.bool_)
    new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    return first[new], second[new]


def _to_arrow(values: Array) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    data = np.ascontiguousarray(values, dtype=np.uint8)
    kind = pa.binary(data.shape[1])
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(data), [None, pa.py_buffer(data)])


def _to_numpy(column: pa.Array) -> Array:
    if pa.types.is_fixed_size_binary(column.type):
        width = column.type.byte_width
        data = np.frombuffer(column.buffers()[1], dtype=np.uint8, count=len(column) * width)
        return data.reshape(len(column), width)
    values: Array = column.to_numpy(zero_copy_only=not pa.types.is_boolean(column.type))
    return values
