"""Learning rates against hand-computed points and the properties each schedule promises."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.config import ScheduleConfig
from training.schedule import learning_rate

KINDS = ["cosine", "rewarm", "reuse", "wsd", "constant"]
FINAL = {"cosine": 0.1, "rewarm": 0.1, "reuse": 0.01, "wsd": 0.0, "constant": 1.0}


def rates(steps: int, peak: float = 1.0, **schedule: Any) -> list[float]:
    config = ScheduleConfig(**schedule)
    return [learning_rate(config, peak, step, steps) for step in range(steps)]


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ({"kind": "cosine"}, 0, 0.1),  # 10 warm-up steps of 101
        ({"kind": "cosine"}, 9, 1.0),
        ({"kind": "cosine"}, 10, 1.0),
        ({"kind": "cosine"}, 55, 0.55),  # half of the way from 10 to 100: the mean of peak and final
        ({"kind": "cosine"}, 40, 0.1 + 0.9 * 0.75),  # a third of the way: (1 + cos 60 degrees) / 2
        ({"kind": "cosine"}, 100, 0.1),
        ({"kind": "cosine", "final_ratio": 0.0}, 100, 0.0),
        ({"kind": "cosine", "warmup_ratio": 0.0}, 0, 1.0),
        ({"kind": "cosine", "warmup_ratio": 0.0}, 50, 0.55),
        ({"kind": "rewarm"}, 0, 1.0),  # one step of warm-up
        ({"kind": "rewarm"}, 1, 1.0),
        ({"kind": "rewarm"}, 100, 0.1),
        ({"kind": "reuse"}, 0, 1.0),
        ({"kind": "reuse"}, 50, 0.505),
        ({"kind": "reuse"}, 100, 0.01),
        ({"kind": "wsd"}, 80, 1.0),  # the last 20 of 101 steps decay
        ({"kind": "wsd"}, 81, 0.95),
        ({"kind": "wsd"}, 90, 0.5),
        ({"kind": "wsd"}, 100, 0.0),
        ({"kind": "wsd", "final_ratio": 0.2}, 90, 0.6),
        ({"kind": "wsd", "decay_ratio": 1.0, "warmup_ratio": 0.1}, 100, 0.0),
        ({"kind": "constant", "warmup_ratio": 0.05}, 1, 0.4),
        ({"kind": "constant"}, 100, 1.0),
    ],
)
def test_hand_computed_points(schedule: dict[str, Any], step: int, expected: float) -> None:
    assert learning_rate(ScheduleConfig(**schedule), 3e-4, step, 101) == pytest.approx(3e-4 * expected, abs=1e-12)


@given(st.sampled_from(KINDS), st.integers(20, 500), st.floats(0, 0.5), st.floats(0.05, 0.5), st.floats(1e-6, 1.0))
def test_up_to_the_peak_then_never_up_and_last_the_final_rate(
    kind: str, steps: int, warmup_ratio: float, decay_ratio: float, peak: float
) -> None:
    curve = rates(steps, peak, kind=kind, warmup_ratio=warmup_ratio, decay_ratio=decay_ratio)
    warmup = round(warmup_ratio * steps)
    assert curve[max(warmup - 1, 0)] == pytest.approx(peak)
    assert all(a < b for a, b in pairwise(curve[:warmup]))
    assert all(b <= a * (1 + 1e-12) for a, b in pairwise(curve[max(warmup - 1, 0) :]))
    assert curve[-1] == pytest.approx(peak * FINAL[kind], abs=1e-15)
    assert max(curve) == pytest.approx(peak)
    assert min(curve) >= 0


@given(st.sampled_from(KINDS), st.integers(20, 500), st.floats(0, 1))
def test_a_stated_final_ratio_is_met(kind: str, steps: int, final: float) -> None:
    if kind != "constant":
        assert rates(steps, kind=kind, final_ratio=final)[-1] == pytest.approx(final, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_the_shortest_runs_have_usable_rates(kind: str, steps: int) -> None:
    curve = rates(steps, kind=kind)
    assert all(0 <= rate <= 1 and math.isfinite(rate) for rate in curve)
    assert curve[0] > 0
