from __future__ import annotations

import socket
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ground.errors import UserError
from tracking.config import TrackingConfig
from tracking.connect import connect, sqlite_path
from tracking.runs import Tracker


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.fixture
def other_server() -> Iterator[int]:
    """A web server that is not MLflow."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("scheme", ["http", "https", "postgresql", "mysql+pymysql"])
def test_a_refused_port_is_one_line_without_the_password(scheme: str, closed_port: int) -> None:
    with pytest.raises(UserError) as caught:
        Tracker.open(f"{scheme}://me:hunter2@127.0.0.1:{closed_port}/x", "demo")
    text = str(caught.value)
    assert caught.value.field == "tracking.uri"
    assert str(closed_port) in text and "start the MLflow server" in text
    assert "hunter2" not in text and "\n" not in text
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_a_server_that_never_answers_ends_in_time(silent_port: int) -> None:
    with pytest.raises(UserError, match="no answer within 1 seconds"):
        connect(f"http://127.0.0.1:{silent_port}", answer_s=1)


def test_another_web_server_is_named(other_server: int) -> None:
    with pytest.raises(UserError, match=r"refuses .*403.*MLFLOW_TRACKING_USERNAME"):
        connect(f"http://me:hunter2@127.0.0.1:{other_server}")


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "mlruns", "/tmp/mlruns"])
def test_file_stores_name_sqlite_as_the_mend(uri: str) -> None:
    with pytest.raises(UserError, match="use sqlite:"):
        connect(uri)


@pytest.mark.parametrize("uri", ["ftp://host/x", "http://host:port/", "sqlite://", "sqlite:///:memory:"])
def test_senseless_uris(uri: str) -> None:
    with pytest.raises(UserError, match=r"tracking\.uri"):
        connect(uri)


def test_a_file_that_is_no_database_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_text("precious")
    with pytest.raises(UserError, match="cannot be opened as SQLite"):
        connect(f"sqlite:///{path}")
    assert path.read_text() == "precious"


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
    connection.execute("INSERT INTO alembic_version VALUES ('nonsense')")
    connection.commit()
    connection.close()
    with pytest.raises(UserError, match="refuses"):
        connect(f"sqlite:///{path}")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="name a writable place"):
        connect(f"sqlite:///{tmp_path}/file/mlflow.db")


def test_a_deleted_experiment(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    tracker = Tracker.open(uri, "demo")
    tracker.client.delete_experiment(tracker.experiment_id)
    with pytest.raises(UserError, match=r"tracking.experiment.*was deleted"):
        Tracker.open(uri, "demo")
    assert not (Path.cwd() / "mlruns").exists()


def test_sqlite_path() -> None:
    assert sqlite_path("sqlite:////a/b.db") == Path("/a/b.db")
    assert sqlite_path("sqlite:///b.db?x=1") == Path("b.db")
    assert sqlite_path("http://host") is None


def test_the_default_is_a_file_in_the_work_folder(tmp_path: Path) -> None:
    assert TrackingConfig().resolved_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    assert TrackingConfig(uri="http://host").resolved_uri(tmp_path) == "http://host"
