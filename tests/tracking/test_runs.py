from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from tests.tracking.waiting import wait_until
from tracking.identity import load_identity, save_identity
from tracking.runs import RunLog, Tracker, flatten, resend


class Flaky:
    """A client whose calls fail while it is down."""

    def __init__(self, client: MlflowClient) -> None:
        self._client, self.up = client, True

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not self.up:
                raise ConnectionError("connection refused by https://me:hunter2@mlflow")
            return getattr(self._client, name)(*args, **kwargs)

        return call


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def tracker(store: str) -> Tracker:
    return Tracker.open(
        store, f"experiment {uuid.uuid4().hex}", description="What it is about.", tags={"recipe": "demo"}
    )


@pytest.fixture
def flaky(tracker: Tracker) -> Iterator[tuple[Tracker, Flaky]]:
    client = Flaky(tracker.client)
    tracker.client = client  # type: ignore[assignment]
    yield tracker, client
    client.up = True


def step(tokens: int, **metrics: float) -> dict[str, Any]:
    return {"step": tokens // 100, "tokens": tokens, "time_ms": 1_700_000_000_000 + tokens, "metrics": metrics}


def history(tracker: Tracker, log: RunLog, name: str) -> list[tuple[int, float]]:
    assert log.run_id is not None
    return sorted((point.step, point.value) for point in tracker.client.get_metric_history(log.run_id, name))


def test_a_tree_with_everything(tracker: Tracker, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("<p>hello")
    with tracker.run("demo", tmp_path / "parent", description="All runs.") as parent:
        children = []
        for name in ("one", "two", "three"):
            with tracker.run(
                name, tmp_path / name, parent=parent, tags={"kind": "x"}, params={"mixture": {"epochs": 4}}
            ) as run:
                run.dataset("medical", "ab" * 32, "s3://key:secret@bucket/med", "domain", {"documents": 12})
                for tokens in range(0, 1000, 100):
                    run.log(step(tokens, **{"train/loss": 4.0 - tokens / 1000, "heldout/medical/loss": 3.0}))
                children.append(run)
        parent.artifact(report, "report")
    client = tracker.client
    ids = [run.run_id for run in children]
    query = f"tags.`mlflow.parentRunId` = '{parent.run_id}'"
    assert {run.info.run_id for run in client.search_runs([tracker.experiment_id], query)} == set(ids)
    found = client.get_run(str(ids[0]))
    assert found.info.status == "FINISHED"
    assert found.data.params == {"mixture.epochs": "4"}
    assert found.data.tags["kind"] == "x"
    assert history(tracker, children[0], "train/loss") == [(t, 4.0 - t / 1000) for t in range(0, 1000, 100)]
    assert found.inputs is not None
    (used,) = found.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("medical", "ab" * 18)
    assert [tag.value for tag in used.tags] == ["domain"]
    assert json.loads(str(used.dataset.profile)) == {"documents": 12}
    assert "secret" not in used.dataset.source
    assert [file.path for file in client.list_artifacts(str(parent.run_id), "report")] == ["report/report.html"]
    assert client.get_run(str(parent.run_id)).data.tags["mlflow.note.content"] == "All runs."
    assert client.get_experiment(tracker.experiment_id).tags["mlflow.note.content"] == "What it is about."


def test_the_artifacts_lie_beside_the_database(tracker: Tracker, store: str) -> None:
    place = tracker.client.get_experiment(tracker.experiment_id).artifact_location
    assert Path(place.removeprefix("file://")) == Path(store.removeprefix("sqlite:///")).parent / "artifacts"


def test_opening_twice_gives_the_same_experiment(store: str) -> None:
    assert Tracker.open(store, "twice").experiment_id == Tracker.open(store, "twice").experiment_id


def test_a_folder_continues_its_run(tracker: Tracker, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), tracker.run("r", tmp_path, params={"a": 1}) as first:
        for tokens in range(0, 500, 100):
            first.log(step(tokens, loss=float(tokens)))
        raise KeyboardInterrupt
    run_id = str(first.run_id)
    assert tracker.client.get_run(run_id).info.status == "KILLED"
    again = tracker.run("r", tmp_path, params={"a": 1})
    for tokens in range(300, 800, 100):  # goes on from an earlier checkpoint
        assert again.log(step(tokens, loss=float(tokens)) | {"time_ms": 5}) == (tokens >= 500)
    assert again.finish() == 0
    assert again.run_id == run_id
    assert tracker.client.get_run(run_id).info.status == "FINISHED"
    assert history(tracker, again, "loss") == [(t, float(t)) for t in range(0, 800, 100)]


def test_a_running_run_is_marked_so_after_a_resume(tracker: Tracker, tmp_path: Path) -> None:
    tracker.run("r", tmp_path).finish("FAILED")
    again = tracker.run("r", tmp_path)
    again.log(step(0, loss=1.0))
    assert again._sender.close(30) == 0
    assert tracker.client.get_run(str(again.run_id)).info.status == "RUNNING"


def test_a_changed_parameter_becomes_a_tag(tracker: Tracker, tmp_path: Path) -> None:
    tracker.run("r", tmp_path, params={"lr": 1, "seed": 7}).finish()
    log = tracker.run("r", tmp_path, params={"lr": 2, "seed": 7, "new": "x"})
    assert log.finish() == 0
    data = tracker.client.get_run(str(log.run_id)).data
    assert data.params == {"lr": "1", "seed": "7", "new": "x"}
    assert data.tags["changed.lr"] == "2"


def test_many_and_long_parameters(tracker: Tracker, tmp_path: Path) -> None:
    log = tracker.run("r", tmp_path, params={"n": {str(i): i for i in range(250)}, "long": "x" * 9_000, "odd name#": 1})
    assert log.finish() == 0
    params = tracker.client.get_run(str(log.run_id)).data.params
    assert len(params) == 252
    assert len(params["long"]) == 6_000
    assert params["odd name_"] == "1"


def test_more_metrics_than_one_batch_takes(tracker: Tracker, tmp_path: Path) -> None:
    log = tracker.run("r", tmp_path)
    log.log(step(0, **{f"m/{i}": float(i) for i in range(1_500)}))
    assert log.finish() == 0
    assert len(tracker.client.get_run(str(log.run_id)).data.metrics) == 1_500


def test_a_metric_mlflow_would_refuse_is_dropped_with_one_line(
    tracker: Tracker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tracker.run("r", tmp_path)
    for tokens in (0, 100):
        log.log(step(tokens, **{"ok": float("nan"), "a//b": 1.0, "../up": 1.0}))
    assert log.finish() == 0
    assert set(tracker.client.get_run(str(log.run_id)).data.metrics) == {"ok"}
    assert caplog.text.count("'a//b'") == 1


@pytest.mark.slow
def test_a_missing_artifact_holds_up_nothing(
    tracker: Tracker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tracker.run("r", tmp_path)
    log.artifact(tmp_path / "gone.html")
    log.log(step(0, loss=1.0))
    assert log.finish() == 0
    assert "gone.html is gone" in caplog.text
    assert history(tracker, log, "loss") == [(0, 1.0)]


def test_an_outage_from_start_to_end(
    flaky: tuple[Tracker, Flaky], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker, client = flaky
    artifact = tmp_path / "a.txt"
    artifact.write_text("hi")
    client.up = False
    with caplog.at_level(logging.WARNING):
        parent = tracker.run("parent", tmp_path / "parent")
        child = tracker.run("child", tmp_path / "child", parent=parent, params={"a": 1}, tags={"t": "x"})
        for tokens in range(0, 5_000, 100):
            child.log(step(tokens, loss=1.0 / (tokens + 1)))
        child.artifact(artifact)
        assert child.run_id is None
        left = child.finish(timeout_s=0.2)
        parent.finish(timeout_s=0.2)
    assert left == 50 + 3  # points, parameters, artifact, status
    assert "hunter2" not in caplog.text
    client.up = True
    assert resend(child.folder, tracker.client) == 53
    assert resend(child.folder, tracker.client) == 0
    resend(parent.folder, tracker.client)
    found = tracker.client.get_run(str(child.run_id))
    assert found.info.status == "FINISHED"
    assert found.data.tags["mlflow.parentRunId"] == parent.run_id
    assert found.data.params == {"a": "1"}
    assert len(history(tracker, child, "loss")) == 50
    assert len(tracker.client.search_runs([tracker.experiment_id])) == 2


def test_an_outage_in_the_middle(flaky: tuple[Tracker, Flaky], tmp_path: Path) -> None:
    tracker, client = flaky
    log = tracker.run("r", tmp_path)
    for tokens in range(0, 3_000, 100):
        client.up = not 1_000 <= tokens < 2_000
        log.log(step(tokens, loss=float(tokens)))
    client.up = True
    assert log.finish() == 0
    assert history(tracker, log, "loss") == [(t, float(t)) for t in range(0, 3_000, 100)]


def test_sending_twice_changes_nothing(tracker: Tracker, tmp_path: Path) -> None:
    log = tracker.run("r", tmp_path / "run", params={"a": 1})
    log.dataset("d", "00", "/data/d", "general", {})
    for tokens in range(0, 500, 100):
        log.log(step(tokens, loss=float("nan") if tokens == 200 else 1.0))
    log.finish()
    before = tracker.client.get_run(str(log.run_id)).to_dictionary()
    (tmp_path / "run" / "spool.sent").unlink()
    assert resend(log.folder, tracker.client) > 0
    assert len(history(tracker, log, "loss")) == 5
    after = tracker.client.get_run(str(log.run_id)).to_dictionary()
    assert json.dumps(after) == json.dumps(before)


def test_a_kill_between_creating_and_noting_leaves_one_run(tracker: Tracker, tmp_path: Path) -> None:
    log = tracker.run("r", tmp_path)
    log.finish()
    identity = load_identity(tmp_path)
    assert identity is not None
    save_identity(tmp_path, replace(identity, run_id=None))
    again = tracker.run("r", tmp_path)
    again.finish()
    assert again.run_id == identity.run_id
    assert len(tracker.client.search_runs([tracker.experiment_id])) == 1


def test_a_deleted_run_is_made_anew_and_filled(tracker: Tracker, tmp_path: Path) -> None:
    log = tracker.run("r", tmp_path)
    log.log(step(0, loss=1.0))
    log.finish()
    tracker.client.delete_run(str(log.run_id))
    again = tracker.run("r", tmp_path)
    again.log(step(100, loss=2.0))
    assert again.finish() == 0
    assert len(tracker.client.search_runs([tracker.experiment_id])) == 1
    assert history(tracker, again, "loss") == [(0, 1.0), (100, 2.0)]


def test_system_metrics_go_on_after_a_resume(tracker: Tracker, tmp_path: Path) -> None:
    name = "system/system_memory_usage_percentage"
    for last in (3, 8):
        log = tracker.run("r", tmp_path)
        log.start_system_metrics(interval_s=0.02)
        wait_until(partial(_sampled, log, last))
        assert log.finish() == 0
    steps = [index for index, _ in history(tracker, log, name)]
    assert steps == list(range(len(steps)))


def _sampled(log: RunLog, last: int) -> bool:
    return (log._spool.last_tokens("system/") or 0) >= last


def test_a_broken_device_does_not_matter(tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise PermissionError("no /proc here")

    monkeypatch.setattr("mlflow.system_metrics.metrics.cpu_monitor.CPUMonitor.collect_metrics", fail)
    monkeypatch.setattr("mlflow.system_metrics.metrics.disk_monitor.DiskMonitor.__init__", fail)
    log = tracker.run("r", tmp_path)
    log.start_system_metrics(interval_s=0.01)
    wait_until(lambda: log._spool.last_tokens("system/") is not None)
    assert log.finish() == 0


def test_a_late_record_is_dropped_quietly(tracker: Tracker, tmp_path: Path) -> None:
    log = tracker.run("r", tmp_path)
    log.finish()
    log.log(step(0, loss=1.0))
    assert log.finish() == 0


def test_flatten() -> None:
    values = {"a": {"b": [1, None], "c": {"d": True}}, "e": "text", "f": 0.1, "g": {}, "h": float("inf"), "i": None}
    assert dict(flatten(values)) == {
        "a.b": "[1, null]",
        "a.c.d": "true",
        "e": "text",
        "f": "0.1",
        "g": "{}",
        "h": "inf",
        "i": "null",
    }
    assert dict(flatten({"uri": "http://me:pw@host/x"})) == {"uri": "http://***@host/x"}
