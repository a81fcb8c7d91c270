"""Cut files into splits, each the work of one task. The splits of a file hold each of its rows exactly once."""

from __future__ import annotations

from collections.abc import Sequence

from ground.config import Section
from pipelines.paths import Compression, Kind, file_format
from pipelines.readers.config import SourceReading

BLOCK_BYTES = 1 << 20
"""Size of the blocks in which lines are read and, where a file is decompressed by every task, dealt out."""

_MOST_TURNS = (
    16  # each task decompresses the whole file: 16 times at 300 MB/s (gzip) cost as much as work at 19 MB/s, once
)
_EXPANSION = 4  # text is three to five times the size of its gzip, zstd or Parquet file


class Split(Section):
    """A part of one file. How it is cut follows from what it is:

    - JSON lines as they are: ``start`` to ``stop``, bytes; a row belongs to the split in which its first byte lies.
    - Parquet: the row groups whose first row lies in the ``index``-th of ``count`` equal parts of the rows.
    - Compressed JSON lines: every ``count``-th block of ``block_bytes`` of the uncompressed lines, from ``index`` on.
    - Arrow, WARC: every ``count``-th record batch or page.
    - Text, and a ``.json`` file that is one array: whole, in the first split.
    """

    source: str
    file: str
    """Path or URL."""
    kind: Kind
    compression: Compression | None
    index: int
    count: int
    start: int = 0
    stop: int | None = None
    block_bytes: int = BLOCK_BYTES
    bytes: int
    """About how much text it holds, so that many small splits can go to one task."""


def plan_splits(
    name: str, source: SourceReading, files: Sequence[str], sizes: Sequence[int], target_bytes: int
) -> list[Split]:
    """Splits of about ``target_bytes`` of uncompressed text, in the order of the files. Opens no file.

    Args:
        name: the source's, for the splits and for errors.
        files: what ``expand_source`` found.
        sizes: stored bytes of each file.
        target_bytes: size of one task; small files get one split each.

    Raises:
        UserError: the format of a file is unknown.
    """
    splits: list[Split] = []
    for file, size in zip(files, sizes, strict=True):
        kind, compression = file_format(file, source.format, f"sources.{name}")
        in_ranges = kind in ("jsonl", "json") and compression is None
        expansion = _EXPANSION if compression or kind == "parquet" else 1
        wanted = -(-size * expansion // target_bytes)
        if kind == "text":
            wanted = 1
        elif not in_ranges and kind != "parquet":
            wanted = min(wanted, _MOST_TURNS)
        count = max(1, min(wanted, size))
        for index in range(count):
            start, stop = size * index // count, size * (index + 1) // count
            splits.append(
                Split(
                    source=name,
                    file=file,
                    kind=kind,
                    compression=compression,
                    index=index,
                    count=count,
                    start=start if in_ranges else 0,
                    stop=stop if in_ranges and index + 1 < count else None,
                    block_bytes=min(BLOCK_BYTES, target_bytes),
                    bytes=(stop - start) * expansion,
                )
            )
    return splits
