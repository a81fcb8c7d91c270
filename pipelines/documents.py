"""Corpus files to documents: JSONL, Parquet and plain text, local or behind any URL that fsspec reads."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from ground.errors import UserError
from ground.files import digest_bytes
from pipelines.config import SourceConfig
from pipelines.paths import expand_paths, file_format
from pipelines.streams import file_digest, open_stream

_PARQUET_ROWS = 1000
_BATCH_BYTES = 8 << 20

Counts = MutableMapping[str, int]

__all__ = ["Documents", "expand_paths", "file_digest", "largest_hash", "read_documents"]


@dataclass(frozen=True, slots=True)
class Documents:
    """A batch of documents, one list entry each."""

    ids: list[str]
    texts: list[str]
    """Valid Unicode: what could not be decoded is U+FFFD."""
    hashes: list[str]
    """BLAKE3 of each text's UTF-8, 32 hex digits: equal texts have equal hashes."""
    bytes: list[int]
    """Lengths of the texts in UTF-8."""

    def __len__(self) -> int:
        return len(self.ids)


def read_documents(
    file: str,
    source: SourceConfig,
    counts: Counts,
    field: str = "sources",
    *,
    batch_documents: int = 1000,
    largest: str | None = None,
) -> Iterator[Documents]:
    """Read one file in batches of at most ``batch_documents`` documents or about 8 MiB.

    Rows that hold no document are skipped and counted by reason: ``malformed_json`` (a line that is no JSON) and
    ``missing_text`` (no text field, or not a string). Bytes that are no UTF-8 become U+FFFD.

    Args:
        file: path or URL, as ``expand_paths`` returns it.
        counts: where skipped rows are counted.
        field: recipe field of the source (``sources.<name>``), for errors.
        largest: leave out documents with larger hashes; ``largest_hash`` over all files of the source tells it. Absent
            while ``source.max_documents`` is set: the limit applies to this file alone.

    Raises:
        UserError: the file cannot be read or decompressed, its format is unknown, or a Parquet file has no such column.
    """
    if largest is None:
        largest = largest_hash([file], source, field)
    batch, size = Documents([], [], [], []), 0
    for key, text in _rows(file, source, counts, field):
        data = text.encode()
        digest = digest_bytes(data)
        if largest is not None and digest > largest:
            continue
        batch.ids.append(key)
        batch.texts.append(text)
        batch.hashes.append(digest)
        batch.bytes.append(len(data))
        size += len(data)
        if len(batch) == batch_documents or size >= _BATCH_BYTES:
            yield batch
            batch, size = Documents([], [], [], []), 0
    if len(batch):
        yield batch


def largest_hash(files: Iterable[str], source: SourceConfig, field: str = "sources") -> str | None:
    """The largest of the ``source.max_documents`` smallest document hashes, or None without a limit or below it.

    Choosing documents by it is a random choice that is the same on every run, in whatever order files are read. It
    costs one more pass over the files, and memory for ``max_documents`` hashes. Equal texts are all kept, so that a few
    more documents than asked for may come.
    """
    if source.max_documents is None:
        return None
    texts = (text for file in files for _, text in _rows(file, source, {}, field))
    smallest = heapq.nsmallest(source.max_documents, (digest_bytes(text) for text in texts))
    return smallest[-1] if len(smallest) == source.max_documents else None


def _rows(file: str, source: SourceConfig, counts: Counts, field: str) -> Iterator[tuple[str, str]]:
    """Id and text of each document of a file."""
    kind, compression = file_format(file, source.format, field)
    name = PurePosixPath(file).name
    with open_stream(file, compression, field) as stream:
        if kind == "text":
            yield name, stream.read().decode("utf-8", "replace")
        elif kind == "jsonl":
            yield from _jsonl(stream, name, source, counts)
        else:
            yield from _parquet(stream, name, source, counts, field)


def _jsonl(stream: IO[bytes], name: str, source: SourceConfig, counts: Counts) -> Iterator[tuple[str, str]]:
    for row, line in enumerate(stream):
        content = line.decode("utf-8-sig" if row == 0 else "utf-8", "replace")
        if not content.strip():
            continue
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):  # RecursionError: thousands of opening brackets
            _count(counts, "malformed_json")
            continue
        text = value.get(source.text_field) if isinstance(value, dict) else None
        if isinstance(text, str):
            yield _key(value.get(source.id_field), name, row), _whole_characters(text)
        else:
            _count(counts, "missing_text")


def _parquet(
    stream: IO[bytes], name: str, source: SourceConfig, counts: Counts, field: str
) -> Iterator[tuple[str, str]]:
    parquet = pq.ParquetFile(stream)
    columns = parquet.schema_arrow.names
    if source.text_field not in columns:
        mend = f"choose one of its columns: {', '.join(columns) or 'it has none'}"
        raise UserError(f"{field}.text_field", f"{name} has no column {source.text_field!r}", mend)
    id_field = source.id_field if source.id_field in columns else None
    wanted = [source.text_field] if id_field in (None, source.text_field) else [source.text_field, id_field]
    row = 0
    for batch in parquet.iter_batches(batch_size=_PARQUET_ROWS, columns=wanted):
        texts = _strings(batch.column(source.text_field))
        keys = _strings(batch.column(id_field)) if id_field is not None else [None] * len(texts)
        for text, key in zip(texts, keys, strict=True):
            if isinstance(text, str):
                yield _key(key, name, row), text
            else:
                _count(counts, "missing_text")
            row += 1


def _strings(column: pa.Array) -> list[Any]:
    """Values of a column, strings by way of their bytes: a string column may hold bytes that are no UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        values = column.cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", "replace") for value in values]
    if pa.types.is_integer(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return cast(list[Any], column.to_pylist())
    return [None] * len(column)


def _key(value: object, name: str, row: int) -> str:
    if isinstance(value, str) and value:
        return _whole_characters(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else f"{name}#{row}"


def _whole_characters(text: str) -> str:
    """JSON can spell half of a surrogate pair ("\\ud83d"), which UTF-8 cannot hold: join pairs, replace lone halves."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _count(counts: Counts, reason: str) -> None:
    counts[reason] = counts.get(reason, 0) + 1
