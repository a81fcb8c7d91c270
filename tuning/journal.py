"""An append-only file of JSON lines that outlives crashes: locked, flushed to the disk, a torn last line is cut off.

Many threads and processes may write one journal. Each write happens under an exclusive file lock and after reading what others
wrote, so that a check of the whole content and the write that rests on it are one.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from ground.errors import CorruptError

Record = Mapping[str, Any]


class Journal:
    """Records in the order written.

    Args:
        path: the file; None keeps the records in memory.
        apply: called once with every record, old and new, in order and never twice.
    """

    def __init__(self, path: Path | None, apply: Callable[[Record], None]) -> None:
        self._path, self._apply = path, apply
        self._offset = self._lines = 0
        self._thread = threading.RLock()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(path.with_name(path.name + ".lock"))
        self.refresh()

    def refresh(self) -> None:
        """Apply what other writers appended.

        Raises:
            CorruptError: a complete line is not JSON.
        """
        if self._path is None:
            return
        with self._thread, self._lock:
            self._read()

    def append(self, make: Callable[[], Record | None]) -> Record | None:
        """Append the record that ``make`` returns once everything written so far is applied; None writes nothing.

        Raises:
            OSError: the disk refused. The record does not count, and a part of it on disk will be cut off.
        """
        if self._path is None:
            with self._thread:
                record = make()
                if record is not None:
                    self._apply(record)
                return record
        with self._thread, self._lock:
            self._read()
            record = make()
            if record is not None:
                line = json.dumps(record, sort_keys=True).encode() + b"\n"
                self._write(line)
                self._apply(record)
                self._offset += len(line)
                self._lines += 1
            return record

    def _write(self, line: bytes) -> None:
        assert self._path is not None
        with open(self._path, "ab") as file:
            # A crash may have left half a line: nobody acted on it, since acting comes after the flush.
            file.truncate(self._offset)
            try:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(self._offset)
                raise

    def _read(self) -> None:
        assert self._path is not None
        if not self._path.exists():
            return
        with open(self._path, "rb") as file:
            file.seek(self._offset)
            data = file.read()
        for line in data.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
            except ValueError:
                raise CorruptError(
                    str(self._path),
                    f"line {self._lines + 1} is not JSON",
                    "restore the file; it was written to by hand",
                ) from None
            self._apply(record)
            self._offset += len(line)
            self._lines += 1
