"""A store that nobody reaches when a run begins."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from ground.errors import UserError
from tracking import late
from tracking.identity import load_identity
from tracking.late import PENDING, LateClient
from tracking.runs import RunLog, Tracker, kept_records


@pytest.fixture
def nobody() -> str:
    """The address of a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def point(tokens: int) -> dict[str, Any]:
    return {"step": tokens // 100, "tokens": tokens, "time_ms": 1_700_000_000_000 + tokens, "metrics": {"loss": 1.0}}


def record(tracker: Tracker, folder: Path) -> tuple[RunLog, RunLog]:
    """A parent and its child with three points."""
    parent = tracker.run("parent", folder / "parent")
    child = tracker.run("child", folder / "child", parent=parent, params={"a": 1})
    for tokens in (0, 100, 200):
        child.log(point(tokens))
    return parent, child


def test_the_next_process_sends_what_waits(nobody: str, tmp_path: Path) -> None:
    away = Tracker.open(nobody, "demo", or_later=True)
    assert f"nobody answers at {nobody}" in away.unreachable
    parent, child = record(away, tmp_path)
    assert child.finish(timeout_s=0.1) == kept_records(child.folder) == 3 + 2  # points, parameters, status
    parent.finish(timeout_s=0.1)
    with pytest.raises(UserError, match="nobody answers"):
        away.deliver(child.folder)

    there = Tracker.open(f"sqlite:///{tmp_path}/mlflow.db", "demo")
    assert there.unreachable == ""
    assert there.deliver(child.folder) == 5  # the child first: its parent's run is made on the way
    there.deliver(parent.folder)
    found = there.client.get_run(str(child.run_id))
    assert found.data.tags["mlflow.parentRunId"] == parent.run_id
    assert found.info.experiment_id == there.experiment_id
    assert len(there.client.get_metric_history(str(child.run_id), "loss")) == 3
    assert len(there.client.search_runs([there.experiment_id])) == 2
    identity = load_identity(child.folder)
    assert identity is not None and identity.experiment_id == there.experiment_id


@pytest.mark.slow
def test_a_store_that_comes_up_in_mid_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late, "_AGAIN_S", 0.0)
    real = Tracker.open(f"sqlite:///{tmp_path}/mlflow.db", "demo")
    problem = UserError("tracking.uri", "nobody answers", "start it")
    up = False

    def open_store() -> tuple[MlflowClient, str]:
        if not up:
            raise problem
        return real.client, real.experiment_id

    tracker = Tracker(LateClient(open_store, problem), PENDING, "", "nobody answers")  # type: ignore[arg-type]
    parent, child = record(tracker, tmp_path)
    assert child.run_id is None
    up = True
    assert child.finish() == 0
    assert parent.finish() == 0
    assert len(real.client.get_metric_history(str(child.run_id), "loss")) == 3
    assert len(real.client.search_runs([real.experiment_id])) == 2


def test_nobody_is_not_asked_at_every_call() -> None:
    problem = UserError("tracking.uri", "nobody answers", "start it")
    asked = []

    def open_store() -> tuple[MlflowClient, str]:
        asked.append(1)
        raise problem

    client = LateClient(open_store, problem)
    for _ in range(3):
        with pytest.raises(UserError, match="nobody answers"):
            client.get_run("x")
    assert not asked  # one has just failed
    client._failed_at -= 3600
    with pytest.raises(UserError, match="nobody answers"):
        client.search_runs([PENDING])
    assert asked == [1]


def test_what_refuses_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("precious")
    with pytest.raises(UserError, match="cannot be opened as SQLite"):
        Tracker.open(f"sqlite:///{tmp_path}/mlflow.db", "demo", or_later=True)
