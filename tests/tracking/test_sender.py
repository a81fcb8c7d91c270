"""The sending thread: nothing stays behind when it is closed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from tests.tracking.waiting import wait_until
from tracking.sender import Sender
from tracking.spool import Record, Spool


def point(tokens: int) -> Record:
    return {"tokens": tokens, "time_ms": tokens, "metrics": {"loss": 1.0}}


def test_a_record_that_comes_while_it_closes_is_sent(tmp_path: Path) -> None:
    """The record is appended, and closing begun, right after the thread found the spool empty."""
    spool = Spool(tmp_path)
    delivered: list[int] = []
    left: list[int] = []

    def deliver(records: Sequence[Record]) -> None:
        delivered.extend(record["tokens"] for record in records)

    sender = Sender(spool, deliver, interval_s=0.01)
    closing = threading.Thread(target=lambda: left.append(sender.close(5.0)))
    read = spool.read

    def read_then_close() -> tuple[list[Record], int]:
        found = read()
        if not found[0] and delivered == [1]:
            spool.append(point(2))
            closing.start()
            wait_until(sender._closing.is_set)
        return found

    spool.read = read_then_close  # type: ignore[method-assign]
    spool.append(point(1))
    sender.wake()
    wait_until(lambda: bool(left))
    assert delivered == [1, 2]
    assert left == [0]


def test_closing_gives_up_when_the_time_is_over(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(point(1))

    def refuse(records: Sequence[Record]) -> None:
        raise ConnectionError("refused")

    sender = Sender(spool, refuse, first_wait_s=0.01)
    sender.wake()
    assert sender.close(0.2) == 1
