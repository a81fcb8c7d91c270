"""The simulation against the closed forms, and what must hold in any run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs.goodput import (
    Checkpoints,
    Faults,
    Run,
    daly_goodput,
    daly_interval,
    expected_maximum,
    simulate,
    young_interval,
)

RUN = Run(steps=20_000, step_s=1.0, nodes=4)


def test_nothing_fails_and_nothing_is_lost() -> None:
    done = simulate(RUN, Checkpoints(every=100, held_s=0.0), Faults(mtbf_s=1e15, restart_s=100), seed=1)
    assert done.wall_s == pytest.approx(20_000)
    assert (done.failures, done.goodput) == (0, pytest.approx(1.0))


@pytest.mark.parametrize(("mtbf", "every"), [(3_000.0, 200), (800.0, 100), (20_000.0, 400)])
def test_many_runs_meet_the_exact_expectation(mtbf: float, every: int) -> None:
    """Daly's formula is exact where a checkpoint is whole as soon as training goes on."""
    checkpoints, faults = Checkpoints(every=every, held_s=5.0), Faults(mtbf_s=mtbf, restart_s=120.0)
    walls = np.array([simulate(RUN, checkpoints, faults, seed).wall_s for seed in range(200)])
    expected = RUN.steps * RUN.step_s / daly_goodput(every * RUN.step_s, checkpoints, faults)
    assert abs(walls.mean() - expected) < 4 * walls.std() / math.sqrt(len(walls))


def test_a_checkpoint_counts_only_when_it_is_whole() -> None:
    faults = Faults(mtbf_s=3_000.0, restart_s=60.0)
    lost = [
        np.mean([simulate(RUN, Checkpoints(200, 1.0, written), faults, seed).lost_s for seed in range(50)])
        for written in (0.0, 60.0, 190.0)
    ]
    assert lost[0] < lost[1] < lost[2]
    late = Checkpoints(200, 1.0, 60.0)
    goodput = np.mean([simulate(RUN, late, faults, seed).goodput for seed in range(200)])
    assert goodput == pytest.approx(daly_goodput(200.0, late, faults), abs=0.01)


@given(
    every=st.integers(1, 500),
    held=st.floats(0, 20),
    written=st.floats(0, 300),
    mtbf=st.floats(300, 1e5),
    jitter=st.floats(0, 0.1),
    seed=st.integers(0, 2**32),
)
def test_the_parts_of_a_run_sum_to_its_time(
    every: int, held: float, written: float, mtbf: float, jitter: float, seed: int
) -> None:
    run = Run(steps=300, step_s=0.5, nodes=3)
    checkpoints, faults = Checkpoints(every, held, written), Faults(mtbf, 20.0, jitter)
    done = simulate(run, checkpoints, faults, seed)
    parts = (done.training_s, done.waiting_s, done.held_s, done.lost_s, done.restarting_s)
    assert math.isclose(sum(parts), done.wall_s, rel_tol=1e-9)
    assert min(done.held_s, done.lost_s, done.restarting_s) >= -1e-9
    assert done == simulate(run, checkpoints, faults, seed)


def test_the_best_interval_is_the_best() -> None:
    held, mtbf = 10.0, 5_000.0
    best = daly_interval(held, mtbf)
    assert best == pytest.approx(young_interval(held, mtbf), rel=0.1)
    checkpoints, faults = Checkpoints(1, held), Faults(mtbf, 60.0)
    goodput = daly_goodput(best, checkpoints, faults)
    assert all(daly_goodput(best * factor, checkpoints, faults) < goodput for factor in (0.5, 0.8, 1.25, 2.0))
    assert daly_interval(3 * mtbf, mtbf) == mtbf


def test_waiting_for_the_slowest_node_meets_its_expectation() -> None:
    assert expected_maximum(1) == pytest.approx(0, abs=1e-6)
    assert expected_maximum(2) == pytest.approx(1 / math.sqrt(math.pi), abs=1e-6)
    run = Run(steps=20_000, step_s=1.0, nodes=64)
    done = simulate(run, Checkpoints(10**9, 0.0), Faults(1e15, 0.0, jitter=0.02), seed=3)
    assert done.waiting_s / done.training_s == pytest.approx(0.02 * expected_maximum(64), rel=0.02)
