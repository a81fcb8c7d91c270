"""Rows of JSON files: one value a line, or a file that is one array (or one indented object after another)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import orjson

from pipelines.readers.elements import elements
from pipelines.readers.lines import line_blocks
from pipelines.readers.rejects import Rejects
from pipelines.readers.splits import Split
from pipelines.streams import open_stream

_HEAD_BYTES = 1 << 16
_STRINGS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKETS = re.compile(r"[^\[\]{}]+")
_DEEPEST = 200  # what the slow parser may nest: its own limit depends on how deep the caller stands


def json_rows(split: Split, rejects: Rejects, field: str) -> Iterator[tuple[int, Any]]:
    """Position (byte in the uncompressed file) and value of each row of a split.

    A ``.json`` file that begins with ``[`` is one array, one that begins with a line ``{`` a series of indented objects; the
    first split reads all of it, since where an element begins is known only from the start of the file.

    Raises:
        UserError: the file cannot be read to its end, or an array has none.
    """
    if split.kind == "json" and (opening := _opening(split, field)) is not None:
        if split.index == 0:
            with open_stream(split.file, split.compression, field) as stream:
                for offset, element in elements(stream, split.file, rejects, array=opening == b"["):
                    yield from _parsed(offset, element, split.file, rejects)
        return
    with open_stream(split.file, split.compression, field) as stream:
        for start, block in line_blocks(stream, split, rejects):
            offset = start
            for line in block.split(b"\n"):
                try:
                    value = orjson.loads(line)
                except orjson.JSONDecodeError:
                    yield from _parsed(offset, line, split.file, rejects)
                else:
                    yield offset, value
                offset += len(line) + 1


def _opening(split: Split, field: str) -> bytes | None:
    """``[`` or ``{`` when the file is an array or begins with an indented object, None when it holds lines."""
    with open_stream(split.file, split.compression, field) as stream:
        head = stream.read(_HEAD_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"["):
        return b"["
    return b"{" if head.partition(b"\n")[0].strip() == b"{" else None


def _parsed(offset: int, row: bytes, file: str, rejects: Rejects) -> Iterator[tuple[int, Any]]:
    """What the fast parser refuses: blank rows, bytes that are no UTF-8, half surrogate pairs, NaN."""
    if not row.strip():
        return
    try:
        yield offset, _tolerant(row)
    except (ValueError, RecursionError):
        rejects.add("malformed_json", file, offset, row)


def _tolerant(row: bytes) -> Any:
    content = row.decode("utf-8", "replace")
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        if _depth(content) > _DEEPEST:
            raise
        return json.loads(content)


def _depth(content: str) -> int:
    deepest = depth = 0
    for sign in _NO_BRACKETS.sub("", _STRINGS.sub("", content)):
        depth += 1 if sign in "[{" else -1
        deepest = max(deepest, depth)
    return deepest
