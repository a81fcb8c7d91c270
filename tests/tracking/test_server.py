"""A team's MLflow on real servers: PostgreSQL and an S3 API behind `steady ui --serve`, many jobs at once, an outage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ground.errors import UserError
from tests.helpers.recipes import small_recipe
from tests.helpers.servers import KEYS, ROOT, Mlflow, free_port, missing_for_servers, postgres, s3
from tests.helpers.stores import make_store

pytestmark = pytest.mark.long
JOBS, STEPS, METRICS = 8, 1000, 30


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if reason := missing_for_servers():
        pytest.skip(reason)
    with s3(tmp_path_factory.mktemp("s3"), "artifacts", "corpora") as url:
        yield url


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    if reason := missing_for_servers():
        pytest.skip(reason)
    with postgres() as uri:
        yield uri


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, endpoint: str, database: str) -> Iterator[Mlflow]:
    folder = tmp_path_factory.mktemp("server")
    environment = {
        **KEYS,
        "MLFLOW_S3_ENDPOINT_URL": endpoint,
        "MLFLOW_BACKEND_STORE_URI": database,
        "MLFLOW_ARTIFACTS_DESTINATION": "s3://artifacts/mlflow",
        "OMP_NUM_THREADS": "1",
    }
    recipe = small_recipe(folder, with_store=False)
    mlflow = Mlflow(recipe, free_port(), environment, folder / "log")
    mlflow.start()
    yield mlflow
    mlflow.kill()


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)


def test_eight_jobs_lose_nothing_in_an_outage(server: Mlflow, database: str, tmp_path: Path) -> None:
    """The server hangs longer than its clients wait, so that they send again what it then takes twice; the database hangs up."""
    import psycopg

    program = [sys.executable, "-m", "tests.helpers.many_records", server.uri, str(STEPS), str(METRICS)]
    folders = [str(tmp_path / f"job-{i}") for i in range(JOBS)]
    jobs = [
        subprocess.Popen([*program, *part], cwd=ROOT, stdout=subprocess.PIPE) for part in (folders[::2], folders[1::2])
    ]
    try:
        _wait_for_points(database, 5000)
        server.signal(signal.SIGSTOP)
        time.sleep(15)
        server.signal(signal.SIGCONT)
        with psycopg.connect(database, autocommit=True) as connection:
            hang_up = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            connection.execute(hang_up)
        said = [one for job in jobs for one in json.loads(job.communicate(timeout=540)[0])]
    finally:
        for job in jobs:
            job.kill()
    print("microseconds of a call, p50 and p95:", [(round(one["p50"]), round(one["p95"])) for one in said])
    assert [one["left"] for one in said] == [0] * JOBS
    with psycopg.connect(database) as connection:
        counted = connection.execute(
            "SELECT r.name, r.status, count(*), count(DISTINCT (m.key, m.step)), count(DISTINCT m.key), sum(m.value)"
            " FROM metrics m JOIN runs r ON r.run_uuid = m.run_uuid WHERE r.name LIKE 'job-%' GROUP BY r.name, r.status"
        ).fetchall()
    expected = sum(step + i / 100 for step in range(STEPS) for i in range(METRICS))
    assert {row[0] for row in counted} == {f"job-{i}" for i in range(JOBS)}
    for name, status, points, different, names, total in counted:
        assert (status, points, different, names) == ("FINISHED", STEPS * METRICS, STEPS * METRICS, METRICS), name
        assert total == pytest.approx(expected)


def _wait_for_points(database: str, points: int) -> None:
    import psycopg

    end = time.monotonic() + 240
    with psycopg.connect(database, autocommit=True) as connection:
        while connection.execute("SELECT count(*) FROM metrics").fetchone()[0] < points:  # type: ignore[index]
            assert time.monotonic() < end
            time.sleep(0.3)


def test_artifacts_and_models_go_through_the_server(server: Mlflow, endpoint: str, tmp_path: Path) -> None:
    """A client needs neither the database's password nor the object store's keys."""
    import boto3

    from tracking.registry import register_model
    from tracking.runs import Tracker

    assert not [name for name in KEYS if os.environ.get(name) == "testing"]
    tracker = Tracker.open(server.uri, "artifacts")
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "report.html").write_text("<p>hello")
    with tracker.run("parent", tmp_path / "parent") as parent:
        parent.artifact(tmp_path / "report.html", "report")
        with tracker.run("child", tmp_path / "child", parent=parent) as child:
            child.dataset("medical", "ab" * 16, "s3://corpora/medical", "domain", {"documents": 12})
            child.node_sample(1, {"system/cpu_utilization_percentage": 50.0})
    assert parent.finish() == child.finish() == 0
    run_id = str(child.run_id)
    version = register_model(
        tracker.client,
        "medical",
        model,
        "model",
        run_id=run_id,
        tags={"task/med_qa/accuracy": "0.41"},
        description="# Card",
    )
    registered = tracker.client.get_model_version("medical", version)
    assert (registered.run_id, registered.tags) == (run_id, {"task/med_qa/accuracy": "0.41"})
    data = tracker.client.get_run(run_id).data
    assert data.tags["mlflow.parentRunId"] == parent.run_id
    assert data.metrics == {"system/node_1/cpu_utilization_percentage": 50.0}
    client = boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id="x", aws_secret_access_key="x", region_name="us-east-1"
    )
    names = {entry["Key"].split("/artifacts/")[-1] for entry in client.list_objects_v2(Bucket="artifacts")["Contents"]}
    assert names >= {"report/report.html", "model/model.safetensors"}


def test_passwords_are_seen_nowhere(server: Mlflow, database: str) -> None:
    password = database.split(":")[2].split("@", maxsplit=1)[0]
    assert server.process is not None
    seen = server.log.read_text()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            seen += process.read_bytes().decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
    assert "--serve" in seen and password not in seen
    assert "postgresql://***@127.0.0.1" in seen


def test_a_wrong_password_is_one_line(database: str) -> None:
    from tracking.runs import Tracker

    password = database.split(":")[2].split("@", maxsplit=1)[0]
    with pytest.raises(UserError, match=r"tracking\.uri.*refuses.*check user, password") as caught:
        Tracker.open(database.replace(password, "hunter2"), "demo")
    assert "hunter2" not in str(caught.value)


def test_a_store_in_an_object_store(keys: None, tmp_path: Path) -> None:
    """Published once, then read on another node through its cache."""
    from pipelines.store_cache import StoreCache
    from pipelines.store_remote import open_store, publish

    store = make_store(tmp_path / "store", {"med": ("domain", 20_000), "wiki": ("general", 10_000)})
    publish(store, "s3://corpora/stores/small")
    publish(store, "s3://corpora/stores/small")
    cache = StoreCache(tmp_path / "cache", 1 << 20)
    far = open_store("s3://corpora/stores/small", cache, verify=True)
    assert far.digest == store.digest
    indices = np.arange(store.stream("med").tokens // 64)
    assert (far.windows("med", indices, 64) == store.windows("med", indices, 64)).all()
    assert far.documents("wiki", "heldout").keys() == store.documents("wiki", "heldout").keys()
    with pytest.raises(UserError, match="there is no complete store at s3://corpora/stores/none"):
        open_store("s3://corpora/stores/none", cache)
    with pytest.raises(UserError, match="there is no complete store at s3://nobody/store"):
        open_store("s3://nobody/store", cache)
