"""The elements of a JSON array of any length, found by counting brackets: memory holds one element at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from pipelines.readers.rejects import Rejects
from pipelines.readers.splits import BLOCK_BYTES
from pipelines.readers.values import LONGEST_RECORD

_SIGN = re.compile(rb'["\[\]{},]')
_BACKSLASH = ord("\\")
_OPENING, _CLOSING = b"[{", b"]}"


def elements(
    stream: IO[bytes],
    file: str,
    rejects: Rejects,
    *,
    array: bool,
    block_bytes: int = BLOCK_BYTES,
    longest: int = LONGEST_RECORD,
) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each element; what is between its brackets is left to the parser.

    Args:
        array: the file is one array; else it is a series of values with nothing or commas between them.

    Raises:
        EOFError: the file ends inside an element or the array.
    """
    scanner = _Scanner(0 if array else 1)
    offset = 0
    while block := stream.read(block_bytes):
        if offset == 0:
            block = b"   " + block[3:] if block.startswith(b"\xef\xbb\xbf") else block
        for start, element, size in scanner.scan(block, offset, longest):
            if len(element) < size:
                rejects.add("too_long", file, start, element)
            elif content := element.lstrip():
                yield start + size - len(content), content
        offset += len(block)
    if scanner.depth != (0 if array else 1) or scanner.in_string:
        raise EOFError("it ends inside a JSON value")
    if scanner.pending.strip():
        rejects.add("malformed_json", file, scanner.start, scanner.pending)


class _Scanner:
    """Depth 0 is outside of the array, 1 between its elements."""

    def __init__(self, depth: int) -> None:
        self.base = self.depth = depth
        self.in_string = self.escaped = False
        self.start = 0
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def pending(self) -> bytes:
        return b"".join(self._pieces)

    def scan(self, block: bytes, offset: int, longest: int) -> Iterator[tuple[int, bytes, int]]:
        """Offset, bytes and size of each element that ends in the block; fewer bytes than its size: it was too long."""
        begin = at = 0
        while (at := self._next(block, at)) < len(block):
            sign = block[at : at + 1]
            at += 1
            if sign == b'"':
                self.in_string = True
                continue
            if sign in _OPENING:
                self.depth += 1
                if self.depth == 1:
                    begin = at
                    self._reset(offset + at)
                continue
            if sign in _CLOSING:
                self.depth -= 1
            closes_array = sign == b"]" and self.depth == 0
            closes_value = sign in _CLOSING and self.depth == 1 and self.base == 1
            if closes_array or closes_value or (sign == b"," and self.depth == 1):
                self._take(block[begin : at if closes_value else at - 1], longest)
                yield self.start, self.pending, self._size
                begin = at
                self._reset(offset + at)
        self._take(block[begin:], longest)

    def _next(self, block: bytes, at: int) -> int:
        """Where the next sign outside of a string is, or the end of the block."""
        if self.in_string:
            low = at + 1 if self.escaped else at
            at = block.find(b'"', low)
            while at >= 0 and _backslashes(block, low, at) % 2:
                at = block.find(b'"', at + 1)
            if at < 0:
                self.escaped = _backslashes(block, low, len(block)) % 2 == 1
                return len(block)
            self.in_string = self.escaped = False
            at += 1
        sign = _SIGN.search(block, at)
        return sign.start() if sign else len(block)

    def _take(self, piece: bytes, longest: int) -> None:
        self._size += len(piece)
        if self._size > longest:
            self._pieces = self._pieces[:1] or [piece[:longest]]
        elif piece:
            self._pieces.append(piece)

    def _reset(self, start: int) -> None:
        self.start, self._pieces, self._size = start, [], 0


def _backslashes(block: bytes, low: int, high: int) -> int:
    """How many backslashes stand right before ``high``: what follows an odd number of them is escaped."""
    count = 0
    while high - count > low and block[high - count - 1] == _BACKSLASH:
        count += 1
    return count
