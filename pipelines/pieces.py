"""Reading a stream that is cut into files of a fixed size, by memory map: any span without reading the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

START = np.dtype("<u4")
"""Type of a ``.starts`` file: tokens before a document's first one, counted from the start of its piece."""


class Pieces:
    """The pieces of one stream in one kind of file, mapped when first read.

    Args:
        files: the pieces in order.
        dtype: of an entry.
        size: tokens in every piece of the stream but the last.
    """

    def __init__(self, files: Sequence[Path], dtype: np.dtype[Any], size: int) -> None:
        self._files, self._dtype, self._size = files, dtype, size
        self._maps: list[NDArray[Any] | None] = [None] * len(files)

    def copy(self, start: int, out: NDArray[Any]) -> None:
        """Copy ``len(out)`` entries from ``start`` on, for files with one entry a token.

        Raises:
            IndexError: the stream does not reach that far.
        """
        if start < 0:
            raise IndexError(f"token {start} is outside the stream")
        filled = 0
        while filled < len(out):
            index, offset = divmod(start + filled, self._size)
            piece = self._map(index)[offset : offset + len(out) - filled]
            if not len(piece):
                raise IndexError(f"token {start + filled} is outside the stream")
            out[filled : filled + len(piece)] = piece
            filled += len(piece)

    def starts(self, low: int, high: int) -> NDArray[np.int32]:
        """Documents that start at tokens ``low .. high - 1``, counted from ``low``, for ``.starts`` files.

        Raises:
            IndexError: the stream does not reach that far.
        """
        if low < 0:
            raise IndexError(f"token {low} is outside the stream")
        parts = []
        for index in range(low // self._size, (high - 1) // self._size + 1):
            starts, before = self._map(index), index * self._size
            # Bounds of the array's own type: others would make numpy convert, and so read, the whole file.
            bounds = np.array([max(low - before, 0), min(high - before, self._size)], dtype=self._dtype)
            first, end = starts.searchsorted(bounds)
            parts.append((starts[first:end].astype(np.int64) + (before - low)).astype(np.int32))
        return np.concatenate(parts)

    def _map(self, index: int) -> NDArray[Any]:
        if index >= len(self._files):
            raise IndexError(f"token {index * self._size} is outside the stream")
        mapped = self._maps[index]
        if mapped is None:
            file = self._files[index]
            # An empty file cannot be mapped: a piece in which no document starts.
            # As a plain array, whose slices cost a third of a memmap's.
            mapped = np.asarray(np.memmap(file, self._dtype, mode="r") if file.stat().st_size else [], self._dtype)
            self._maps[index] = mapped
        return mapped
