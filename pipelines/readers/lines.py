"""The lines of a split: long blocks of whole lines, with the byte at which each begins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from pipelines.readers.rejects import Rejects
from pipelines.readers.splits import Split
from pipelines.readers.values import LONGEST_RECORD

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def line_blocks(
    stream: IO[bytes], split: Split, rejects: Rejects, longest: int = LONGEST_RECORD
) -> Iterator[tuple[int, bytes]]:
    """Blocks of whole lines of a split, each with its offset in the uncompressed file.

    A line belongs to the split in which its first byte lies. Memory stays near ``longest`` whatever the file holds: a
    longer line is rejected (``too_long``). A byte order mark at the start of the file becomes spaces.

    Args:
        stream: the uncompressed file, at its start.
    """
    line = _OpenLine()
    if split.start:
        stream.seek(split.start - 1)
        line.open = stream.read(1) != b"\n"  # the tail of a line of the split before
    for offset, wanted, block in _blocks(stream, split):
        if split.stop is not None and not wanted and not (line.open and line.wanted):
            return
        begin = 0
        if line.open:
            begin = block.find(b"\n") + 1
            line.extend(block[:begin] if begin else block, longest)
            if not begin:
                continue
            yield from line.close(split.file, rejects)
        end = block.rfind(b"\n", begin) + 1
        if end and wanted:
            yield offset + begin, _without_mark(block[begin:end]) if offset + begin == 0 else block[begin:end]
        if (end or begin) < len(block):
            line = _OpenLine(offset + (end or begin), block[end or begin :], wanted)
    if line.open:
        yield from line.close(split.file, rejects)


class _OpenLine:
    """A line whose end has not been read yet."""

    def __init__(self, offset: int = 0, start: bytes = b"", wanted: bool = False) -> None:
        self.open = bool(start)
        self.offset, self.size, self.wanted = offset, len(start), wanted
        self._pieces = [start]

    def extend(self, piece: bytes, longest: int) -> None:
        self.size += len(piece)
        if self.size > longest:
            self._pieces = self._pieces[:1]
        elif self.wanted:
            self._pieces.append(piece)

    def close(self, file: str, rejects: Rejects) -> Iterator[tuple[int, bytes]]:
        self.open = False
        if not self.wanted:
            return
        content = b"".join(self._pieces)
        if len(content) < self.size:
            rejects.add("too_long", file, self.offset, content)
        else:
            yield self.offset, _without_mark(content) if self.offset == 0 else content


def _blocks(stream: IO[bytes], split: Split) -> Iterator[tuple[int, bool, bytes]]:
    """Offset of each block, whether lines that begin in it belong to the split, and its bytes."""
    offset, number = split.start, 0
    while True:
        size = split.block_bytes
        in_range = split.stop is None or offset < split.stop
        if split.stop is not None and in_range:
            size = min(size, split.stop - offset)
        block = stream.read(size)
        if not block:
            return
        yield offset, in_range if split.compression is None else number % split.count == split.index, block
        offset, number = offset + len(block), number + 1


def _without_mark(block: bytes) -> bytes:
    return b"   " + block[3:] if block.startswith(_BYTE_ORDER_MARK) else block
