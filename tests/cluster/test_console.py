"""Numbers as people read them."""

from __future__ import annotations

import pytest

from cluster.console import count, duration


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
