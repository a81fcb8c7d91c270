"""A server slower than its clients wait: it gets on all the same, request by request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tracking.sender import drain
from tracking.spool import Record, Spool


def record(tokens: int, metrics: int) -> Record:
    return {"tokens": tokens, "time_ms": tokens, "metrics": {f"m{i}": 1.0 for i in range(metrics)}}


def test_a_read_is_one_request(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for tokens in range(200):
        spool.append(record(tokens, 30))
    spool.append(record(200, 2500))  # more than one request takes: alone
    spool.append({"tags": {"a": "b"}})
    sizes = []

    def deliver(records: Sequence[Record]) -> None:
        sizes.append(sum(len(one.get("metrics", ())) for one in records))

    drain(spool, deliver)
    assert sizes == [990] * 6 + [60, 2500, 0]
    assert spool.remaining == 0


def test_what_was_taken_before_a_failure_is_not_sent_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for tokens in range(100):
        spool.append(record(tokens, 100))
    taken: list[int] = []

    def deliver(records: Sequence[Record]) -> None:
        if len(taken) in (30, 70) and not failed[len(taken)]:
            failed[len(taken)] = True
            raise TimeoutError("the server is slow")
        taken.extend(one["tokens"] for one in records)

    failed = {30: False, 70: False}
    for _ in range(2):
        with pytest.raises(TimeoutError):
            drain(spool, deliver)
    drain(spool, deliver)
    assert taken == list(range(100))
