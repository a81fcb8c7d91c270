"""Open an MLflow store, or say within seconds why not: MLflow's own retries can take minutes, for SQL even hours."""

from __future__ import annotations

import logging
import os
import re
import socket
import sqlite3
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import SplitResult, urlsplit

from ground.errors import UserError
from tracking.redact import redact, redact_known

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

T = TypeVar("T")

_FIELD = "tracking.uri"
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
_NOISY = ("mlflow.store.db.utils", "mlflow.store.tracking.sqlalchemy_store", "alembic", "urllib3.connectionpool")
_AWAY = re.compile(r"error code 50[234]|too many 50[234] error", re.IGNORECASE)
"""What MLflow says of a gateway whose server is down."""
_CONNECT_S = 5.0
_ANSWER_S = 12.0
_MIGRATION_S = 90.0
"""A new SQL database is created table by table: 2 s for SQLite, more over a network."""


class Unreachable(Exception):  # noqa: N818 (a state of the network, no mistake)
    """Nobody answers now, which may change; ``mistake`` says it to a user."""

    def __init__(self, mistake: UserError) -> None:
        super().__init__(str(mistake))
        self.mistake = mistake


def connect(uri: str, answer_s: float = _ANSWER_S) -> MlflowClient:
    """A client for ``uri`` that has answered one request; a missing SQLite file is created.

    Raises:
        UserError: no such kind of store, nobody answers within about ``answer_s`` seconds, or access is refused.
            Its text never holds the password of ``uri``.
    """
    try:
        return connect_or_wait(uri, answer_s)
    except Unreachable as nobody:
        raise nobody.mistake from None


def connect_or_wait(uri: str, answer_s: float = _ANSWER_S) -> MlflowClient:
    """As :func:`connect`, telling a store that may answer later from one that will not.

    Raises:
        Unreachable: nobody answers, or only a gateway before the store.
        UserError: no such kind of store, or access is refused.
    """
    shown = redact(uri)
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise UserError(_FIELD, f"{shown} is not a valid address", "write it as http://host:port") from None
    kind = parts.scheme.partition("+")[0]
    if kind in ("", "file"):
        mend = "use sqlite:////path/to/mlflow.db or the http address of an MLflow server"
        raise UserError(_FIELD, f"{shown} is a folder, and MLflow 3 no longer writes plain-file stores", mend)
    if kind not in ("sqlite", "databricks", *_PORTS):
        mend = "use http://, https://, sqlite:/// or postgresql://"
        raise UserError(_FIELD, f"{shown} has the unknown scheme {kind!r}", mend)
    if kind == "sqlite":
        _probe_sqlite(uri)
    elif kind in _PORTS and parts.hostname and not _through_proxy(kind, parts):
        _probe_port(shown, parts.hostname, port or _PORTS[kind])
    if kind in _PORTS and kind not in ("http", "https"):
        _probe_database(uri, answer_s)
    return _first_answer(uri, answer_s if kind in ("http", "https", "databricks") else _MIGRATION_S)


def sqlite_path(uri: str) -> Path | None:
    """The file behind a ``sqlite:///`` URI, or None for any other store."""
    if urlsplit(uri).scheme.partition("+")[0] != "sqlite":
        return None
    path = uri.partition(":///")[2].partition("?")[0]
    return Path(path) if path and path != ":memory:" else None


def prepare_environment() -> None:
    """Defaults for MLflow in this process, where the user has not chosen: short waits, no telemetry, a quiet log."""
    # The sender tries again, and waits longer each time; more tries below it would bury a slow server under its own work.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # These log migrations line by line, errors with the whole URI, and a line for every retry in an outage.
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)


def _through_proxy(kind: str, parts: SplitResult) -> bool:
    proxies = urllib.request.getproxies()
    return kind in proxies and not urllib.request.proxy_bypass(parts.hostname or "")


def _probe_sqlite(uri: str) -> None:
    path = sqlite_path(uri)
    if path is None:
        raise UserError(_FIELD, f"{uri} names no file", "write sqlite:////path/to/mlflow.db")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=10)) as connection:
            connection.execute("BEGIN IMMEDIATE")  # writable, and a database at all
            connection.rollback()
    except (OSError, sqlite3.Error) as error:
        raise UserError(_FIELD, f"{path} cannot be opened as SQLite ({error})", "name a writable place") from None


def _probe_port(shown: str, host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        mend = "start the MLflow server, mend the address, or leave tracking.uri out to use a local SQLite file"
        mistake = UserError(_FIELD, f"nobody answers at {shown} ({host} port {port}: {reason})", mend)
        raise Unreachable(mistake) from None


def _probe_database(uri: str, answer_s: float) -> None:
    """One plain connection: MLflow would retry a wrong password for hours."""
    import sqlalchemy

    def open_once() -> None:
        with sqlalchemy.create_engine(uri).connect():
            pass

    try:
        _within(answer_s, open_once)
    except ModuleNotFoundError as error:
        mend = f"install it, or point tracking.uri at an MLflow server ({error.name} is the driver's module)"
        raise UserError(_FIELD, f"the database driver for {redact(uri)} is not installed", mend) from None
    except Exception as error:  # noqa: BLE001 (drivers raise their own families; each of them means "no")
        raise _refused(uri, error, "check user, password and database") from None


def _first_answer(uri: str, answer_s: float) -> MlflowClient:
    prepare_environment()
    from mlflow.tracking import MlflowClient

    def ask() -> MlflowClient:
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
        return client

    try:
        return _within(answer_s, ask)
    except Exception as error:  # noqa: BLE001 (MLflow passes on errors of requests, SQLAlchemy and alembic as they are)
        mend = "check that an MLflow 3 server answers there, and MLFLOW_TRACKING_USERNAME / _PASSWORD / _TOKEN"
        if sqlite_path(uri) is not None:
            mend = "name another file, or bring this one up to date with `mlflow db upgrade`"
        raise _refused(uri, error, mend) from None


def _refused(uri: str, error: Exception, mend: str) -> Exception:
    reason = " ".join(redact_known(str(error), uri).split())[:240] or type(error).__name__
    mistake = UserError(_FIELD, f"{redact(uri)} refuses ({reason})", mend)
    away = isinstance(error, TimeoutError) or (uri.startswith("http") and _AWAY.search(str(error)))
    return Unreachable(mistake) if away else mistake


def _within(seconds: float, action: Callable[[], T]) -> T:
    """The result of ``action``, or TimeoutError; the abandoned thread is a daemon and dies with the process."""
    outcome: Future[T] = Future()

    def work() -> None:
        try:
            outcome.set_result(action())
        except BaseException as error:  # noqa: BLE001 (handed over to the waiting thread)
            outcome.set_exception(error)

    threading.Thread(target=work, name="tracking-connect", daemon=True).start()
    try:
        return outcome.result(seconds)
    except TimeoutError:
        if outcome.done():
            raise
        raise TimeoutError(f"no answer within {seconds:.0f} seconds") from None
