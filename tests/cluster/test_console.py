"""Numbers as people read them."""

from __future__ import annotations

import pytest

from cluster.console import RunProgress, count, duration


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (950, "950"),
        (1234, "1.23 k"),
        (4_560_000, "4.56 M"),
        (16.4e9, "16.4 B"),
        (1e12, "1 T"),
        (-1500, "-1.5 k"),
    ],
)
def test_count(value: float, text: str) -> None:
    assert count(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "unknown"), (40, "40 s"), (720, "12 min"), (12600, "3.5 h"), (777600, "9.0 days")]
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_a_log_file_gets_a_line_for_the_first_step_that_comes_and_for_the_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with RunProgress("r", 100) as progress:
        for step in (61, 62, 63, 100):
            metrics = {"train/loss": 2.0, "train/tokens_per_second": 1e3}
            progress.take({"step": step, "tokens": step, "time_ms": 0, "metrics": metrics})
    told = [line.split()[2] for line in capsys.readouterr().out.splitlines()]
    assert told == ["61/100", "100/100"]
