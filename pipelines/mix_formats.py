"""Writers of mixture parts: Parquet, JSON lines, Megatron's indexed dataset. Each file appears whole or not at all.

A writer takes the path without ending and the rows in chunks, and returns the names of its files. It holds one chunk in
memory, and the same rows in the same chunks give the same bytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from numpy.typing import NDArray

from pipelines.tokenizer import load_tokenizer

Format = Literal["parquet", "jsonl", "megatron"]

TEMPORARY = ".tmp"
_ZSTD_LEVEL = 1  # token ids written as digits compress as well at 1 as at 3, three times as fast
_MEGATRON_HEADER = struct.Struct("<9sQBQQ")
_MEGATRON_TYPES: dict[str, tuple[int, np.dtype[np.integer[Any]]]] = {
    "uint16": (8, np.dtype("<u2")),
    "uint32": (4, np.dtype("<i4")),  # the format has no uint32
}


class Writer(Protocol):
    """Writes one part."""

    def __call__(self, stem: Path, tables: Iterable[pa.Table], *, dtype: str, tokenizer: str | None) -> list[str]:
        """Write the rows of ``tables``.

        Args:
            stem: path of the part without its ending.
            dtype: of the store's tokens, ``uint16`` or ``uint32``.
            tokenizer: folder of the tokenizer to decode the text with; None: no text.

        Raises:
            OSError: the file system refused; no file with the part's name is there.
        """


def write_parquet(stem: Path, tables: Iterable[pa.Table], *, dtype: str, tokenizer: str | None) -> list[str]:
    """Columns as in ``mix_rows.row_schema``, a row group for each chunk.

    Token ids are stored as four streams of bytes, which compresses better than a dictionary and is three to four times
    as fast (Parquet's BYTE_STREAM_SPLIT, readable by pyarrow 17, 2024, and later).
    """
    del dtype, tokenizer
    path = stem.with_suffix(".parquet")
    with _appearing(path) as file:
        writer = None
        for table in tables:
            if writer is None:
                writer = pq.ParquetWriter(
                    file,
                    table.schema,
                    compression="zstd",
                    use_dictionary=["source"],
                    column_encoding={"tokens.list.element": "BYTE_STREAM_SPLIT"},
                    store_schema=False,
                )
            writer.write_table(table, row_group_size=table.num_rows)
        assert writer is not None, stem
        writer.close()
    return [path.name]


def write_jsonl(stem: Path, tables: Iterable[pa.Table], *, dtype: str, tokenizer: str | None) -> list[str]:
    """One object a line, with the same fields and, if a tokenizer is given, ``text``; compressed with zstd."""
    del dtype
    loaded = load_tokenizer(tokenizer).tokenizer if tokenizer else None
    path = stem.with_suffix(".jsonl.zst")
    with _appearing(path) as file, zstandard.ZstdCompressor(_ZSTD_LEVEL).stream_writer(file, closefd=False) as stream:
        for table in tables:
            texts = None
            if loaded is not None:
                texts = loaded.decode_batch(table.column("tokens").to_pylist(), skip_special_tokens=False)
            for index, row in enumerate(_rows(table)):
                if texts is not None:
                    row["text"] = texts[index]
                stream.write(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE))
    return [path.name]


def write_megatron(stem: Path, tables: Iterable[pa.Table], *, dtype: str, tokenizer: str | None) -> list[str]:
    """Megatron-LM's indexed dataset, every sequence a document of its own: ``.bin`` holds the tokens, ``.idx`` the index.

    The index (``megatron/core/datasets/indexed_dataset.py``), little-endian: 9 bytes ``MMIDIDX 00 00``, version 1 as
    uint64, the type's code as uint8, sequences n and entries n + 1 of the document index as uint64, then n lengths as
    int32, n byte offsets as int64, and the document index 0..n as int64.
    """
    del tokenizer
    code, stored = _MEGATRON_TYPES[dtype]
    binary, index = stem.with_suffix(".bin"), stem.with_suffix(".idx")
    lengths: list[NDArray[np.int32]] = []
    with _appearing(binary) as file:
        for table in tables:
            tokens = table.column("tokens").combine_chunks()
            lengths.append(np.diff(tokens.offsets.to_numpy()).astype("<i4"))
            file.write(tokens.flatten().to_numpy().astype(stored).tobytes())
    sizes = np.concatenate(lengths)
    ends = np.cumsum(sizes, dtype=np.int64) * stored.itemsize
    with _appearing(index) as file:
        file.write(_MEGATRON_HEADER.pack(b"MMIDIDX\x00\x00", 1, code, len(sizes), len(sizes) + 1))
        file.write(sizes.tobytes())
        file.write((ends - sizes.astype(np.int64) * stored.itemsize).astype("<i8").tobytes())
        file.write(np.arange(len(sizes) + 1, dtype="<i8").tobytes())
    return [binary.name, index.name]


WRITERS: dict[Format, Writer] = {"parquet": write_parquet, "jsonl": write_jsonl, "megatron": write_megatron}


def _rows(table: pa.Table) -> Iterator[dict[str, object]]:
    """Rows as dictionaries whose lists are numpy arrays: ten times as fast as Python's integers."""
    columns: dict[str, list[object]] = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if pa.types.is_list(column.type):
            edges, values = column.offsets.to_numpy(), column.flatten().to_numpy(zero_copy_only=False)
            columns[name] = [values[a - edges[0] : b - edges[0]] for a, b in pairwise(edges)]
        else:
            columns[name] = column.to_pylist()
    for values_of_row in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values_of_row, strict=True))


@contextmanager
def _appearing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that gets its name when the block ends well, flushed to the disk, and else disappears."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
