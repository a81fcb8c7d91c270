"""Three kills of a real run on a real Ray cluster: it ends bit for bit like the run left alone. ``make soak`` does many."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak.kills import SETTINGS, Kind, draw, run_trial, trial
from tests.soak.nodes import Cluster, cluster
from tests.soak.runs import STEPS, Bench, Setting, curves


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with cluster() as running:
        yield running


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("kills"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("kind", "stage", "world"), [("worker", 1, 2), ("driver", 2, 1), ("node", 3, 2)], ids=["worker", "driver", "node"]
)
def test_a_killed_run_ends_like_the_one_left_alone(
    nodes: Cluster, bench: Bench, tmp_path: Path, kind: Kind, stage: int, world: int
) -> None:
    planned = trial(Setting(stage, world), [kind], random.Random(stage))
    (landed,) = run_trial(bench, nodes, planned, tmp_path / "killed")
    assert landed.wrong == ()
    assert landed.at_step >= planned.kills[0].step


def test_twenty_kills_reach_every_setting_with_all_kinds() -> None:
    trials = draw(20, seed=3)
    assert {planned.setting for planned in trials} == set(SETTINGS)
    dealt = [kill for planned in trials for kill in planned.kills]
    assert sorted([kill.kind for kill in dealt]) == ["driver"] * 7 + ["node"] * 6 + ["worker"] * 7
    for planned in trials:
        steps = [kill.step for kill in planned.kills]
        assert steps == sorted(steps)
        assert 0 < steps[0] <= steps[-1] < STEPS
    assert draw(20, seed=3) == trials != draw(20, seed=4)


def test_a_point_recorded_twice_is_no_curve() -> None:
    point = {"step": 1, "tokens": 64, "metrics": {"train/loss": 2.0, "train/mfu": 0.1}}
    assert curves([point]) == {("train/loss", 64): 2.0}
    with pytest.raises(ValueError, match="twice"):
        curves([point, point])
