"""An append-only spool on disk: what is to reach MLflow is written here first, so that an outage loses nothing.

One folder holds ``spool.jsonl`` (one record a line) and ``spool.sent`` (how many of its bytes have been delivered).
A record is a JSON object. Records with a ``metrics`` mapping are keyed by (tokens, metric name): a second one with the
same key is dropped, so that a resumed training run may replay its last steps. The first value stays: its line may
already have been sent, and MLflow would keep both.
"""

from __future__ import annotations

import bisect
import json
import logging
import os
import threading
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ground.files import write_atomic

Record = dict[str, Any]

_READ_BYTES = 1 << 18
_READ_METRICS = 1000
"""As many as MLflow takes in one request: each that succeeds is marked, so that a server slower than its clients' patience gets
on all the same, and is not sent what it has."""
_logger = logging.getLogger(__name__)


class Spool:
    """The spool of one run. One process appends; appending and reading may happen in different threads.

    Opening it cuts off a last line that a kill left without its end.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "spool.jsonl"
        self._sent_path = folder / "spool.sent"
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        # Metric name -> sorted token counts: 8 bytes a point, where a set of tuples would take 100.
        self._seen: dict[str, array[int]] = {}
        self._lines = 0
        self._size = self._load()
        self._sent, self._sent_lines = self._load_sent()
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 (lives as long as the spool)

    def append(self, record: Mapping[str, Any]) -> bool:
        """Write one record and return whether anything of it was new. No network, one system call.

        Raises:
            OSError: the disk refused; nothing of the record is kept.
        """
        with self._lock:
            kept = dict(record)
            if "metrics" in kept:
                tokens = int(kept["tokens"])
                kept["metrics"] = {k: v for k, v in kept["metrics"].items() if not self._has(k, tokens)}
                if not kept["metrics"]:
                    return False
            line = json.dumps(kept, separators=(",", ":"), default=str).encode() + b"\n"
            if self._file.write(line) != len(line):
                os.ftruncate(self._file.fileno(), self._size)
                raise OSError(f"{self.path}: the disk is full")
            self._size += len(line)
            self._lines += 1
            if "metrics" in kept:
                self._remember(kept)
            return True

    def read(self) -> tuple[list[Record], int]:
        """The next unsent records (1,000 metrics or some hundred kilobytes) and the offset to pass to :meth:`mark_sent`."""
        with self._lock:
            start, size = self._sent, self._size
        records: list[Record] = []
        with open(self.path, "rb") as file:
            file.seek(start)
            end, metrics = start, 0
            while end < min(size, start + _READ_BYTES):
                line = file.readline()
                record = _parse(line) or {}
                metrics += len(record.get("metrics", ()))
                if records and metrics > _READ_METRICS:
                    break
                end += len(line)
                records.append(record)
        return records, end

    def mark_sent(self, offset: int, lines: int) -> None:
        """Everything before ``offset`` (``lines`` records more than before) has been delivered; survives a kill.

        Losing this mark is harmless: the records are sent again, and MLflow keeps one of two identical points.
        """
        with self._lock:
            self._sent, self._sent_lines = offset, self._sent_lines + lines
        write_atomic(self._sent_path, json.dumps({"offset": offset}) + "\n")

    def send_again(self) -> None:
        """Forget what was sent, as for a new or restored MLflow store."""
        with self._lock:
            self._sent = self._sent_lines = 0
        self._sent_path.unlink(missing_ok=True)

    @property
    def remaining(self) -> int:
        """Records not yet delivered."""
        with self._lock:
            return self._lines - self._sent_lines

    def last_tokens(self, prefix: str) -> int | None:
        """The largest token count of a metric whose name begins with ``prefix``, or None."""
        with self._lock:
            return max((seen[-1] for name, seen in self._seen.items() if name.startswith(prefix)), default=None)

    def close(self) -> None:
        """Close the file. A later ``append`` raises ValueError."""
        self._file.close()

    def _load(self) -> int:
        """Index the file, cut a torn last line and return the size in bytes."""
        if not self.path.exists():
            return 0
        size = 0
        with open(self.path, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                size += len(line)
                self._lines += 1
                record = _parse(line)
                if record is None:
                    _logger.warning("%s: line %d is unreadable and is skipped", self.path, self._lines)
                elif "metrics" in record:
                    self._remember(record)
        if size < self.path.stat().st_size:
            os.truncate(self.path, size)
        return size

    def _load_sent(self) -> tuple[int, int]:
        """Sent bytes and lines; (0, 0), which re-sends everything, unless the mark stands at the end of a line."""
        try:
            offset = int(json.loads(self._sent_path.read_bytes())["offset"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return 0, 0
        if not 0 < offset <= self._size:
            return 0, 0
        with open(self.path, "rb") as file:
            lines, position = 0, 0
            while position < offset:
                position += len(file.readline())
                lines += 1
        return (offset, lines) if position == offset else (0, 0)

    def _has(self, metric: str, tokens: int) -> bool:
        seen = self._seen.get(metric)
        if seen is None or tokens > seen[-1]:
            return False
        return seen[bisect.bisect_left(seen, tokens)] == tokens

    def _remember(self, record: Record) -> None:
        tokens = int(record["tokens"])
        for metric in record["metrics"]:
            seen = self._seen.setdefault(metric, array("q"))
            if not seen or tokens > seen[-1]:
                seen.append(tokens)
            elif not self._has(metric, tokens):
                bisect.insort(seen, tokens)


def _parse(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:  # includes bytes that are not UTF-8
        return None
    return record if isinstance(record, dict) else None
