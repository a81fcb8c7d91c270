"""Open a corpus file, local or behind a URL, and read its decompressed bytes; a cut file is an error, not an end."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import fsspec
import pyarrow as pa
import zstandard
from blake3 import blake3

from ground.errors import UserError
from pipelines.paths import URL_ERRORS

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_READ_BYTES = 1 << 17  # zstd's own block; what repeats itself grows a thousandfold when decompressed
_LARGEST_WINDOW = 1 << 31  # what `zstd --ultra --long=31` writes
UNREADABLE = (EOFError, zlib.error, zstandard.ZstdError, pa.ArrowException, *URL_ERRORS)
"""What reading a broken file raises."""


@contextmanager
def open_stream(file: str, compression: str | None, field: str) -> Iterator[IO[bytes]]:
    """The decompressed bytes of ``file``.

    Args:
        compression: ``gz``, ``zst`` or None.
        field: recipe field of the source (``sources.<name>``), for errors.

    Raises:
        UserError: it cannot be opened, or what is read inside the ``with`` block turns out broken or incomplete.
    """
    try:
        with fsspec.open(file, "rb") as raw:
            if compression == "gz":
                with gzip.GzipFile(fileobj=raw) as stream:
                    yield cast(IO[bytes], stream)
            elif compression == "zst":
                with io.BufferedReader(_ZstdStream(raw), _READ_BYTES) as reader:
                    yield reader
            else:
                yield raw
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        mend = "check that it is complete and that its ending tells its format"
        raise UserError(f"{field}.paths", f"cannot read {file} ({reason})", mend) from None


@contextmanager
def open_arrow(file: str, compression: str | None, field: str, *, mapped: bool = False) -> Iterator[pa.NativeFile]:
    """A file for Arrow's readers, which jump about in it.

    Args:
        mapped: map a local file into memory, so that what is not looked at is not read.

    Raises:
        UserError: as for ``open_stream``; or the file is compressed as a whole.
    """
    if compression is not None:
        mend = "decompress it: Parquet and Arrow files are compressed inside"
        raise UserError(f"{field}.paths", f"{file} cannot be read in parts", mend)
    with open_stream(file, None, field) as raw:
        if "://" in file:
            yield pa.PythonFile(raw, mode="r")
        elif mapped and Path(file).stat().st_size:
            with pa.memory_map(file) as source:
                yield source
        else:
            with pa.OSFile(file) as source:
                yield source


def file_digest(file: str, field: str = "sources") -> str:
    """BLAKE3 of a file's bytes as they are stored, 32 hex digits; of a path or a URL.

    Raises:
        UserError: it cannot be read.
    """
    hasher = blake3()
    with open_stream(file, None, field) as stream:
        while block := stream.read(_READ_BYTES):
            hasher.update(block)
    return hasher.hexdigest(16)


class _ZstdStream(io.RawIOBase):
    """Reads all frames of a zstd file. The package's own reader takes a truncated file for a complete one."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
        self._frame = self._decompressor.decompressobj()
        self._compressed = b""
        self._pending = memoryview(b"")
        self._inside_frame = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        target = memoryview(buffer).cast("B")
        while not self._pending:
            self._compressed = self._compressed or self._raw.read(_READ_BYTES)
            if not self._compressed:
                if self._inside_frame:
                    raise EOFError("it ends inside a zstd frame")
                return 0
            self._pending = memoryview(self._frame.decompress(self._compressed))
            self._inside_frame = not self._frame.eof
            self._compressed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = self._decompressor.decompressobj()
        size = min(len(target), len(self._pending))
        target[:size] = self._pending[:size]
        self._pending = self._pending[size:]
        return size
