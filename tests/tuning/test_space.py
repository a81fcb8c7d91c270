"""Points, projections and reasons on the iso-budget surface."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ground.errors import UserError
from pipelines.config import MixtureConfig
from pipelines.plan import Plan, SourceSize
from tuning.space import Limits, Point, Space, infeasible

LIMITS = Limits(
    run_tokens=1_280_000,
    step_tokens=6_400,
    sequence_length=64,
    domain_tokens=900_000,
    general_tokens=60_000,
    max_repetition=8,
)
SPACE = Space(LIMITS, epochs=(1, 16), share=(0.1, 1), learning_rate=(1e-4, 1e-2), cheapest=0.25)


@settings(max_examples=60, deadline=None)
@given(
    u=st.lists(st.floats(-0.5, 1.5), min_size=4, max_size=4),
    redraw=st.sampled_from(["once", "epoch", "cycle"]),
    seed=st.integers(0, 3),
)
def test_every_projected_point_is_a_plan_that_the_store_allows(u: list[float], redraw: str, seed: int) -> None:
    space = replace(SPACE, limits=replace(LIMITS, redraw=redraw))
    point = space.point(np.array(u))
    assert infeasible(space, point) == []
    again = space.point(space.unit(point))
    # Rounding to whole sequences moves a point by at most one of them.
    assert abs(again.subset_tokens - point.subset_tokens) <= LIMITS.sequence_length * (1 + point.epochs)
    sizes = {
        "medical": SourceSize("domain", LIMITS.domain_tokens),
        "web": SourceSize("general", LIMITS.general_tokens),
    }
    share = round(point.share, 3)  # plans round shares; a little more of the scarce general text is meant to be refused
    shares = {"medical": share, "web": 1 - share} if share < 1 else {"medical": 1.0}
    mixture = MixtureConfig(
        subset_tokens=point.subset_tokens, epochs=point.epochs, shares=shares, redraw=redraw, max_repetition=8.2
    )
    plan = Plan(sizes, mixture, sequence_length=64, batch_sequences=100, seed=seed)
    assert plan.total_tokens == pytest.approx(point.tokens, abs=1e-3 * point.tokens)
    assert plan.total_tokens <= LIMITS.run_tokens


def test_without_cheaper_runs_every_point_spends_the_whole_run() -> None:
    space = replace(SPACE, cheapest=1.0)
    for point in space.grid(4):
        assert round(point.tokens) == LIMITS.run_tokens
    assert len(space.grid(4)) == 4**3


def test_reasons_carry_their_arithmetic() -> None:
    bad = Point(subset_tokens=1_000_000, epochs=16, share=0.05)
    text = " | ".join(infeasible(SPACE, bad))
    assert "1,000,000 x 16 epochs = 16,000,000 tokens > run budget 1,280,000" in text
    assert "1,000,000 tokens > 900,000" in text
    assert "15,200,000 general tokens > 8 x 60,000" in text
    assert any("steps" in reason for reason in infeasible(SPACE, Point(6_400, 1, 0.9)))
    once = replace(SPACE, limits=replace(LIMITS, redraw="once"))
    assert any("12.0 times > 8" in reason for reason in infeasible(once, Point(100_000, 12, 0.9)))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"run_tokens": 64_000}, "64,000 tokens < 20 steps x 6,400"),
        ({"domain_tokens": 30}, "less than one sequence"),
        ({"general_tokens": 0}, "need a share >= 1.000 > 0.9"),
        ({"domain_tokens": 50_000}, "need >= 25.6 epochs"),
    ],
)
def test_a_space_without_points_is_refused(change: dict[str, int], text: str) -> None:
    with pytest.raises(UserError, match=text.replace("(", r"\(")):
        Space(replace(LIMITS, **change), epochs=(1, 16), share=(0.1, 0.9))
