"""One split to batches of documents: the same for every format, once its reader has found the rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from blake3 import blake3

from pipelines.readers.config import SourceReading
from pipelines.readers.rejects import Rejects
from pipelines.readers.splits import Split
from pipelines.readers.values import (
    LONGEST_RECORD,
    TooDeepError,
    key_of,
    messages_of,
    metadata_of,
    whole_characters,
)

_BATCH_BYTES = 8 << 20
_BATCH_DOCUMENTS = 1000


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
    metadata: list[str | None] = field(default_factory=list)
    """The source's ``metadata_fields`` as canonical JSON, None where a row has none of them."""
    messages: list[str | None] = field(default_factory=list)
    """The conversations as canonical JSON, lists of ``{content, role}``; None without a ``messages_field``."""

    def __len__(self) -> int:
        return len(self.ids)


def read_split(
    split: Split,
    source: SourceReading,
    rejects: Rejects,
    *,
    field: str = "sources",
    largest: str | None = None,
    batch_documents: int = _BATCH_DOCUMENTS,
) -> Iterator[Documents]:
    """Read a split in batches of at most ``batch_documents`` documents or about 8 MiB.

    Args:
        rejects: where rows and rejected rows are counted.
        field: recipe field of the source (``sources.<name>``), for errors.
        largest: leave out documents with larger hashes: how the caller, who knows all splits, obeys
            ``source.max_documents``. ``source.sample_share`` is obeyed here.

    Raises:
        UserError: the file cannot be read to its end, or lacks the document's column.
    """
    limits = [limit for limit in (largest, _share_limit(source.sample_share)) if limit is not None]
    highest = min(limits, default=None)
    batch, size = Documents([], [], [], []), 0
    for key, text, data, digest, metadata, messages in _documents(split, source, rejects, field, highest):
        batch.ids.append(key)
        batch.texts.append(text)
        batch.hashes.append(digest)
        batch.bytes.append(data)
        batch.metadata.append(metadata)
        batch.messages.append(messages)
        size += data
        if len(batch.ids) == batch_documents or size >= _BATCH_BYTES:
            yield batch
            batch, size = Documents([], [], [], []), 0
    if len(batch):
        yield batch


def _documents(
    split: Split, source: SourceReading, rejects: Rejects, field: str, highest: str | None
) -> Iterator[tuple[str, str, int, str, str | None, str | None]]:
    """Id, text, bytes, hash, metadata and messages of each document."""
    name = PurePosixPath(split.file).name
    text_field = "text" if split.kind in ("warc", "text") else source.text_field
    id_field = "id" if split.kind in ("warc", "text") else source.id_field
    metadata: str | None = None
    messages: str | None = None
    for position, values in _rows(split, source, rejects, field):
        if not isinstance(values, dict):
            rejects.add("missing_text", split.file, position, values)
            continue
        if source.messages_field is None:
            text = values.get(text_field)
            if not isinstance(text, str):
                rejects.add("missing_text", split.file, position, values)
                continue
        else:
            found = messages_of(values.get(source.messages_field))
            if found is None:
                rejects.add("malformed_messages", split.file, position, values)
                continue
            text, messages = found
        try:
            data = text.encode()
        except UnicodeEncodeError:
            text = whole_characters(text)
            data = text.encode()
        if len(data) > LONGEST_RECORD:
            rejects.add("too_long", split.file, position, text)
            continue
        if source.metadata_fields:
            try:
                metadata = metadata_of(values, source)
            except TooDeepError:
                rejects.add("nested_too_deep", split.file, position, text)
                continue
        rejects.rows += 1
        digest = blake3(data).hexdigest(16)
        if highest is None or digest <= highest:
            yield key_of(values.get(id_field), name, position), text, len(data), digest, metadata, messages


def _rows(split: Split, source: SourceReading, rejects: Rejects, field: str) -> Iterator[tuple[int, Any]]:
    """Position and value of each row, by the reader of the format. Libraries are imported where they are needed."""
    if split.kind in ("jsonl", "json"):
        from pipelines.readers.json_rows import json_rows

        return json_rows(split, rejects, field)
    if split.kind == "text":
        from pipelines.readers.text import text_rows

        return text_rows(split, rejects, field)
    if split.kind == "warc":
        from pipelines.readers.warc import warc_rows

        return warc_rows(split, rejects, field)
    from pipelines.readers.columns import arrow_rows, parquet_rows

    return (parquet_rows if split.kind == "parquet" else arrow_rows)(split, source, rejects, field)


def _share_limit(share: float) -> str | None:
    return None if share == 1 else f"{int(share * (1 << 128)):032x}"
