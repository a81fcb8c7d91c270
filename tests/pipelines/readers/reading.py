"""Read files through the readers as curation does: plan the splits, read each by itself, put the results together."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import zstandard

from pipelines.readers import Documents, Rejects, SourceReading, plan_splits, read_split

WHOLE = 1 << 40
"""A target size that leaves every file in one split."""


def source(**fields: Any) -> SourceReading:
    return SourceReading(paths=("unused",), **fields)


def read(
    path: Path | str,
    *,
    target: int = WHOLE,
    rejects: list[Rejects] | None = None,
    largest: str | None = None,
    **fields: Any,
) -> list[Documents]:
    """Batches of all splits in order; what each split rejected is added to ``rejects``."""
    size = Path(path).stat().st_size if "://" not in str(path) else 1
    batches: list[Documents] = []
    for split in plan_splits("mine", source(**fields), [str(path)], [size], target):
        found = Rejects()
        batches += read_split(split, source(**fields), found, field="sources.mine", largest=largest)
        if rejects is not None:
            rejects.append(found)
    return batches


def pairs(batches: Iterable[Documents]) -> list[tuple[str, str]]:
    return [pair for batch in batches for pair in zip(batch.ids, batch.texts, strict=True)]


def rows(batches: Iterable[Documents]) -> list[tuple[Any, ...]]:
    """Every column of every document."""
    return [row for b in batches for row in zip(b.ids, b.texts, b.hashes, b.bytes, b.metadata, b.messages, strict=True)]


def counts(rejects: Iterable[Rejects]) -> dict[str, int]:
    return dict(sum((found.counts for found in rejects), start=Rejects().counts))


def lines(values: Iterable[Any], end: str = "\n") -> bytes:
    return "".join(json.dumps(value, ensure_ascii=False) + end for value in values).encode()


def compress(data: bytes, ending: str) -> bytes:
    """``data`` as a file of this ending holds it."""
    if ending.endswith(".gz"):
        return gzip.compress(data, 1)
    return zstandard.compress(data) if ending.endswith(".zst") else data


def record(kind: str, uri: str, payload: bytes, content_type: str) -> bytes:
    """A WARC record (ISO 28500:2017)."""
    head = (
        f"WARC/1.1\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{uuid5(NAMESPACE_URL, uri)}>\r\n"
        f"WARC-Target-URI: {uri}\r\nWARC-Date: 2024-01-01T00:00:00Z\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload + b"\r\n\r\n"


def response(
    uri: str, body: bytes, headers: str = "Content-Type: text/html; charset=utf-8", status: str = "200 OK"
) -> bytes:
    http = f"HTTP/1.1 {status}\r\n{headers}\r\n\r\n".encode() + body
    return record("response", uri, http, "application/http; msgtype=response")
