"""System metrics of several nodes in one run."""

from __future__ import annotations

from pathlib import Path

from tests.tracking.waiting import wait_until
from tracking.history import read_history
from tracking.runs import Tracker
from tracking.system import SystemMetrics, SystemMonitor

CPU = "system/cpu_utilization_percentage"


def test_each_node_has_its_own_names_and_axis() -> None:
    records: list[dict[str, object]] = []
    metrics = SystemMetrics(
        lambda record: records.append(dict(record)), lambda prefix: 4 if "node_1" in prefix else None
    )
    for node in (1, 2, 1):
        metrics.add(node, {CPU: 50.0})
    assert [(record["tokens"], record["metrics"]) for record in records] == [
        (5, {"system/node_1/cpu_utilization_percentage": 50.0}),
        (0, {"system/node_2/cpu_utilization_percentage": 50.0}),
        (6, {"system/node_1/cpu_utilization_percentage": 50.0}),
    ]


def test_nodes_go_on_after_a_resume(tmp_path: Path) -> None:
    tracker = Tracker.open(f"sqlite:///{tmp_path}/mlflow.db", "demo")
    for _ in range(2):
        with tracker.run("r", tmp_path / "run") as log:
            for value in (10.0, 20.0):
                log.node_sample(3, {CPU: value})
    history = read_history(tmp_path / "run")
    assert history["system/node_3/cpu_utilization_percentage"] == [(0, 10.0), (1, 20.0), (2, 10.0), (3, 20.0)]
    data = tracker.client.get_run(str(log.run_id)).data
    assert data.metrics["system/node_3/cpu_utilization_percentage"] == 20.0


def test_a_monitor_samples_without_a_run() -> None:
    """As a worker on another node does."""
    samples: list[dict[str, float]] = []
    monitor = SystemMonitor(samples.append, interval_s=0.05)
    wait_until(lambda: len(samples) >= 2)
    monitor.stop()
    assert CPU in samples[0] and all(name.startswith("system/") for name in samples[0])
