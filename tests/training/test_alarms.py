"""Alarms as pure logic: on known curves, the same however the records are cut, and in the loop."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ground.errors import UserError
from pipelines.store import TokenStore
from tests.helpers.runs import run_tiny
from tests.training.conftest import SHORT
from training.alarms import Alarm, all_alarms, first_needed, new_alarms, records_needed
from training.config import AlarmConfig
from training.job import Record

CONFIG = AlarmConfig(window=8, patience=2, loss_threshold=6.0, gradient_threshold=6.0)
CURVES = st.lists(st.floats(0.5, 20.0) | st.sampled_from([3.0, 3.01, 30.0, math.nan, math.inf]), max_size=60)


def records_of(losses: list[float], norms: list[float] | None = None) -> list[Record]:
    """A record of each step, and one of a held-out loss after every third."""
    records: list[Record] = []
    for step, loss in enumerate(losses, 1):
        metrics = {"train/loss": loss} | ({"train/gradient_norm": norms[step - 1]} if norms else {})
        records.append({"step": step, "tokens": step, "time_ms": step, "metrics": metrics})
        if step % 3 == 0:
            records.append({"step": step, "tokens": step, "time_ms": step, "metrics": {"heldout/med/loss": 1.0}})
    return records


def noisy(count: int, middle: float = 3.0, width: float = 0.1) -> list[float]:
    draw = random.Random(1)
    return [middle + draw.uniform(-width, width) for _ in range(count)]


def test_a_spike_is_told_once_with_its_beginning_and_what_was_expected() -> None:
    losses = [3.0, 3.1] * 6 + [9.0, 8.0, 7.0, 9.0] + [3.0, 3.1] * 4
    [alarm] = all_alarms(records_of(losses), CONFIG)
    assert alarm == Alarm("loss_spike", step=14, value=8.0, expected=3.05, since=13)
    assert alarm.metric() == {"alarm/loss_spike": 8.0 / 3.05}


def test_a_single_record_is_no_spike_where_two_are_asked() -> None:
    losses = [*noisy(12), 9.0, *noisy(12)]
    assert not all_alarms(records_of(losses), CONFIG)
    [alarm] = all_alarms(records_of(losses), CONFIG.model_copy(update={"patience": 1}))
    assert (alarm.step, alarm.since) == (13, 13)


def test_a_second_spike_is_told_again() -> None:
    losses = [*noisy(12), 9.0, 9.0, *noisy(12), 9.0, 9.0, *noisy(4)]
    assert [alarm.step for alarm in all_alarms(records_of(losses), CONFIG)] == [14, 28]


def test_nothing_is_a_spike_before_the_window_is_full() -> None:
    assert not all_alarms(records_of([*noisy(7), 9.0, 9.0]), CONFIG)
    assert all_alarms(records_of([*noisy(8), 9.0, 9.0]), CONFIG)


def test_a_falling_loss_and_a_curve_at_rest_raise_none() -> None:
    assert not all_alarms(records_of([9 - 0.1 * step for step in range(60)]), CONFIG)
    assert not all_alarms(records_of([3.0] * 30 + [3.01] * 5), CONFIG)  # 6 x 0.1 % is 0.018


def test_a_fall_is_no_spike() -> None:
    assert not all_alarms(records_of([*noisy(12), 1.0, 1.0]), CONFIG)


def test_gradient_norms_are_judged_by_factors() -> None:
    norms = [1.0, 2.0] * 6
    assert not all_alarms(records_of([3.0] * 14, [*norms, 4.0, 4.0]), CONFIG)  # doubling is usual here
    [alarm] = all_alarms(records_of([3.0] * 14, [*norms, 90.0, 90.0]), CONFIG)
    assert (alarm.kind, alarm.step, alarm.value, alarm.expected) == ("gradient_spike", 14, 90.0, 1.5)


def test_a_run_without_gradient_norms_has_no_alarms_on_them() -> None:
    assert not all_alarms(records_of(noisy(20)), CONFIG)


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (3.0, math.nan), (3.0, math.inf)])
def test_what_is_not_finite_is_told_at_once(loss: float, norm: float) -> None:
    [alarm] = all_alarms(records_of([3.0, 3.2, loss], [1.0, 1.0, norm]), CONFIG)
    assert (alarm.kind, alarm.step, alarm.since, alarm.expected) == ("not_finite", 3, 3, 3.1)
    assert alarm.metric() == {"alarm/not_finite": 1.0}
    [first] = all_alarms(records_of([loss], [norm]), CONFIG)
    assert math.isnan(first.expected)


def test_either_spike_can_be_switched_off() -> None:
    records = records_of([*noisy(12), 9.0, 9.0], [*noisy(12), 99.0, 99.0])
    assert {alarm.kind for alarm in all_alarms(records, CONFIG)} == {"loss_spike", "gradient_spike"}
    no_loss = CONFIG.model_copy(update={"loss_threshold": None})
    assert {alarm.kind for alarm in all_alarms(records, no_loss)} == {"gradient_spike"}
    no_gradient = CONFIG.model_copy(update={"gradient_threshold": None})
    assert {alarm.kind for alarm in all_alarms(records, no_gradient)} == {"loss_spike"}


@given(CURVES, st.integers(4, 10), st.integers(1, 3))
def test_the_last_records_are_enough(losses: list[float], window: int, patience: int) -> None:
    """What a checkpoint keeps raises the alarms that the whole history raises."""
    config = AlarmConfig(window=window, patience=patience)
    records = records_of(losses)
    for end in range(1, len(records) + 1):
        whole, kept = records[:end], records[first_needed(records[:end], config) : end]
        assert repr(new_alarms(kept, config)) == repr(new_alarms(whole, config))  # NaN equals itself in text
        assert sum("train/loss" in record["metrics"] for record in kept) <= records_needed(config)


@given(st.lists(st.floats(0.5, 20.0), min_size=20, max_size=40), st.floats(0.1, 10), st.integers(1, 3))
def test_the_unit_of_the_loss_does_not_matter(losses: list[float], scale: float, patience: int) -> None:
    config = AlarmConfig(window=8, patience=patience, loss_threshold=5.9)
    one, other = (
        all_alarms(records_of(curve), config) for curve in (losses, [2.0 ** round(scale) * x for x in losses])
    )
    assert [(alarm.step, alarm.since) for alarm in one] == [(alarm.step, alarm.since) for alarm in other]


WATCHED: dict[str, Any] = SHORT | {"alarms": AlarmConfig(window=4, loss_threshold=0.01, gradient_threshold=0.01)}


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_resumed_run_raises_the_same_alarms(
    store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: bool
) -> None:
    """Also when the records before the checkpoint were delivered long ago."""
    if forgotten:
        monkeypatch.setattr("training.loop._UNSETTLED_MS", 0)
    whole, _ = run_tiny(store, tmp_path / "whole", **WATCHED)
    told = [(r["step"], k, v) for r in whole.records for k, v in r["metrics"].items() if k.startswith("alarm/")]
    assert told == [
        (alarm.step, *pair) for alarm in all_alarms(whole.records, WATCHED["alarms"]) for pair in alarm.metric().items()
    ]
    checkpoint = tmp_path / "whole" / "checkpoints" / "step-16"
    again, _ = run_tiny(store, tmp_path / "again", resume=checkpoint, **WATCHED)
    first = min(record["step"] for record in again.records)
    assert forgotten == (first > 0)
    after = [(r["step"], k, v) for r in again.records for k, v in r["metrics"].items() if k.startswith("alarm/")]
    assert after == [alarm for alarm in told if alarm[0] >= first]
    assert any(step > 16 for step, _, _ in after)


def test_a_diverging_run_rings_before_it_ends(
    store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Record] = []
    monkeypatch.setattr("tests.helpers.runs.ListReporter.record", lambda _, record: told.append(record))
    with pytest.raises(UserError, match="lower the rate"):
        run_tiny(store, tmp_path, **SHORT, learning_rate=1e9)
    assert told[-1]["metrics"] == {"alarm/not_finite": 1.0}
