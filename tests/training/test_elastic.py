"""A node is lost and none comes in its place: the run goes on with fewer workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.nodes import WORKER, cluster
from tests.soak.runs import Bench, Command, Setting, curves, step_of

pytestmark = [pytest.mark.slow, pytest.mark.long]
SETTING = Setting(2, 2)


def test_a_run_goes_on_with_fewer_workers_when_a_node_is_lost(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    expected, _ = bench.reference(SETTING)
    with cluster(2) as nodes:
        environment = nodes.environment | {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30"}
        command = Command(bench, SETTING, tmp_path / "run", environment, "training.min_workers=1")
        try:
            assert command.wait_for(lambda records: step_of(records) >= 20, 300), command.last_words()
            lost = next(node for node in nodes.nodes if node.processes(WORKER))
            nodes.nodes.remove(lost)
            lost.kill()
            assert command.wait(400) == 0, command.last_words()
            assert "the workers start again" in command.log.read_text()
        finally:
            if command.ended() is None:
                command.kill()
    found = curves(command.records())
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if key[0].startswith(("train/loss", "heldout/")):
            assert found[key] == pytest.approx(value, rel=1e-5), key
