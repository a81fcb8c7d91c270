from __future__ import annotations

import contextlib
import json
import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tracking.waiting import wait_until
from tracking.sender import Sender, UndeliverableError, drain
from tracking.spool import Record, Spool


def record(tokens: int, **metrics: float) -> Record:
    return {"step": tokens // 10, "tokens": tokens, "time_ms": 1_000 + tokens, "metrics": metrics}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "spool.jsonl").read_text().splitlines()]


class Receiver:
    """Stands for MLflow: keeps points by their primary key, may be down."""

    def __init__(self) -> None:
        self.points: set[tuple[int, int, str, float]] = set()
        self.up = True
        self.calls = 0

    def __call__(self, records: Sequence[Record]) -> None:
        self.calls += 1
        if not self.up:
            raise ConnectionError("no route to host")
        for item in records:
            self.points |= {(item["tokens"], item["time_ms"], name, value) for name, value in item["metrics"].items()}


def test_records_come_back_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for tokens in (0, 10, 20):
        assert spool.append(record(tokens, a=1.0))
    records, end = spool.read()
    assert [item["tokens"] for item in records] == [0, 10, 20]
    assert end == (tmp_path / "spool.jsonl").stat().st_size
    assert spool.remaining == 3


def test_a_point_is_kept_once_and_new_names_pass(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(record(10, a=1.0))
    assert not spool.append(record(10, a=1.0))
    assert spool.append(record(10, a=1.0, b=2.0))
    assert [item["metrics"] for item in lines(tmp_path)] == [{"a": 1.0}, {"b": 2.0}]
    spool.close()
    again = Spool(tmp_path)
    assert not again.append(record(10, a=1.0, b=2.0))
    assert again.append(record(5, a=0.5))  # an older point that was never recorded
    assert not again.append(record(5, a=0.5))


def test_records_without_metrics_are_never_merged(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert spool.append({"status": "RUNNING"})
    assert spool.append({"status": "RUNNING"})


@pytest.mark.parametrize("torn", [b'{"tokens":20,"time_ms":1,"metr', b"\xff\xfe", b'{"tokens":20,"metrics":{}}'])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    spool = Spool(tmp_path)
    spool.append(record(10, a=1.0))
    spool.close()
    with open(tmp_path / "spool.jsonl", "ab") as file:
        file.write(torn)
    spool = Spool(tmp_path)
    assert spool.remaining == 1
    assert spool.append(record(20, a=2.0))
    assert [item["tokens"] for item in lines(tmp_path)] == [10, 20]


def test_an_unreadable_line_inside_is_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = Spool(tmp_path)
    spool.append(record(10, a=1.0))
    spool.close()
    with open(tmp_path / "spool.jsonl", "ab") as file:
        file.write(b"garbage\n")
    spool = Spool(tmp_path)
    spool.append(record(20, a=2.0))
    receiver = Receiver()
    drain(spool, receiver)
    assert {point[0] for point in receiver.points} == {10, 20}
    assert spool.remaining == 0
    assert "line 2 is unreadable" in caplog.text


@pytest.mark.parametrize("mark", ['{"offset": 999999}', '{"offset": 3}', "garbage", "[]", '{"offset": -4}'])
def test_a_senseless_mark_sends_everything_again(tmp_path: Path, mark: str) -> None:
    spool = Spool(tmp_path)
    spool.append(record(10, a=1.0))
    spool.close()
    (tmp_path / "spool.sent").write_text(mark)
    assert Spool(tmp_path).remaining == 1


def test_the_mark_survives(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for tokens in range(0, 100, 10):
        spool.append(record(tokens, a=1.0))
    drain(spool, Receiver())
    spool.append(record(100, a=1.0))
    spool.close()
    again = Spool(tmp_path)
    assert again.remaining == 1
    assert [item["tokens"] for item in again.read()[0]] == [100]


def test_long_spools_are_read_in_pieces(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for tokens in range(5_000):
        spool.append(record(tokens, **{"a/rather/long/metric/name": 1.0, "another/long/metric/name": 2.0}))
    receiver = Receiver()
    drain(spool, receiver)
    assert receiver.calls > 1
    assert len(receiver.points) == 10_000


def test_last_tokens_by_prefix(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert spool.last_tokens("system/") is None
    spool.append({"tokens": 3, "time_ms": 0, "metrics": {"system/cpu": 1.0}})
    spool.append({"tokens": 9, "time_ms": 0, "metrics": {"train/loss": 1.0}})
    assert spool.last_tokens("system/") == 3


def test_an_outage_is_reported_once_and_mended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool, receiver = Spool(tmp_path), Receiver()
    receiver.up = False
    with caplog.at_level(logging.WARNING):
        sender = Sender(spool, receiver, interval_s=0.0, first_wait_s=0.005, longest_wait_s=0.01)
        for tokens in range(0, 500, 10):
            spool.append(record(tokens, a=1.0))
            sender.wake()
        wait_until(lambda: receiver.calls >= 3)
        assert spool.remaining == 50
        receiver.up = True
        assert sender.close(timeout_s=30) == 0
    assert len(receiver.points) == 50
    assert caplog.text.count("out of reach") == 1
    assert caplog.text.count("is back") == 1


def test_closing_in_an_outage_says_how_much_remains(tmp_path: Path) -> None:
    spool, receiver = Spool(tmp_path), Receiver()
    receiver.up = False
    sender = Sender(spool, receiver, first_wait_s=0.01)
    spool.append(record(0, a=1.0))
    spool.append(record(10, a=1.0))
    assert sender.close(timeout_s=0.1) == 2


def test_one_refused_record_does_not_hold_up_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sent: list[int] = []

    def picky(records: Sequence[Record]) -> None:
        if any(item["tokens"] == 10 for item in records):
            raise UndeliverableError("https://me:secret@host refuses")
        sent.extend(item["tokens"] for item in records)

    spool = Spool(tmp_path)
    for tokens in (0, 10, 20):
        spool.append(record(tokens, a=1.0))
    drain(spool, picky)
    assert sent == [0, 20]
    assert spool.remaining == 0
    assert "secret" not in caplog.text


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 5)),
        st.tuples(st.just("kill"), st.integers(0, 60)),
        st.tuples(st.just("resume"), st.integers(0, 12)),
        st.tuples(st.just("send"), st.booleans()),
        st.tuples(st.just("lose mark"), st.just(0)),
    ),
    max_size=30,
)


@given(events=EVENTS, seed=st.integers(0, 2**32))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_interleaving_gives_exactly_the_records(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, Any]], seed: int
) -> None:
    """Appends, kills that tear the line being written, replays from a checkpoint, sends that fail half-way."""
    folder = tmp_path_factory.mktemp("spool")
    receiver, chance = Receiver(), random.Random(seed)
    spool, position, reached = Spool(folder), 0, 0
    clock = 0

    def emit(tokens: int) -> Record:
        nonlocal clock
        clock += 1
        value = float(tokens * tokens % 97)
        return {"tokens": tokens, "time_ms": clock, "metrics": {"loss": value, "share": value / 100}}

    for kind, amount in events:
        if kind == "append":
            for _ in range(amount):
                spool.append(emit(position))
                position += 1
                reached = max(reached, position)
        elif kind == "kill":  # the process dies while it writes a new record
            spool.close()
            line = (json.dumps(emit(reached), separators=(",", ":")) + "\n").encode()
            with open(folder / "spool.jsonl", "ab") as file:
                file.write(line[:amount])
            if amount >= len(line):  # the kill came just after
                reached += 1
            spool = Spool(folder)
        elif kind == "resume":
            spool.close()
            spool, position = Spool(folder), max(0, position - amount)
        elif kind == "lose mark":
            spool.close()
            (folder / "spool.sent").unlink(missing_ok=True)
            spool = Spool(folder)
        else:
            receiver.up = amount
            with contextlib.suppress(ConnectionError):
                drain(spool, _dies_half_way(receiver) if amount and chance.random() < 0.3 else receiver)
    receiver.up = True
    drain(spool, receiver)
    spool.close()
    keys = [(tokens, name) for tokens, _, name, _ in receiver.points]
    assert sorted(keys) == sorted((tokens, name) for tokens in range(reached) for name in ("loss", "share"))
    written = [(item["tokens"], name) for item in lines(folder) for name in item["metrics"]]
    assert len(written) == len(set(written)) == 2 * reached


def _dies_half_way(receiver: Receiver) -> Any:
    def deliver(records: Sequence[Record]) -> None:
        receiver(records[: len(records) // 2])
        raise ConnectionError("connection reset")

    return deliver
