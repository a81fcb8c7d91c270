"""Real servers for tests, on loopback only and gone with the test: PostgreSQL, an S3 API, `steady ui --serve`."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def missing_for_servers() -> str | None:
    """Why the servers cannot be started here; None when they can."""
    if postgres_binaries() is None:
        return "PostgreSQL is not installed (apt-get install postgresql)"
    absent = [name for name in ("moto", "boto3", "s3fs", "psycopg") if find_spec(name) is None]
    return f"not installed: {', '.join(absent)} (pip install -e '.[dev]')" if absent else None


def postgres_binaries() -> Path | None:
    """The folder of initdb and postgres: Debian keeps them off PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb")
    return next(
        (folder for folder in [*folders, *([Path(found).parent] if found else [])] if (folder / "initdb").is_file()),
        None,
    )


@contextmanager
def postgres() -> Iterator[str]:
    """A database server of its own; the URI of an empty database, with a password."""
    import psycopg

    binaries = postgres_binaries()
    assert binaries is not None
    # It refuses to run as root, and another user must be able to enter its folder.
    folder = Path(tempfile.mkdtemp(prefix="steady-pg-", dir="/tmp"))
    user = None
    if os.getuid() == 0:
        user = next(name for name in ("postgres", "nobody") if _exists(name))
        shutil.chown(folder, user)
    password, port = f"p{secrets.token_hex(8)}", free_port()
    word = folder / "password"
    word.write_text(password)
    word.chmod(0o644)
    as_user = {"user": user, "cwd": str(folder)} if user else {}
    make = [str(binaries / "initdb"), "-D", str(folder / "data"), "-U", "steady", "-A", "scram-sha-256"]
    subprocess.run([*make, "--pwfile", str(word), "-N", "-E", "UTF8"], check=True, capture_output=True, **as_user)  # type: ignore[call-overload]
    word.unlink()
    start = [str(binaries / "postgres"), "-D", str(folder / "data"), "-h", "127.0.0.1", "-p", str(port)]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([*start, "-k", str(folder)], stdout=log, stderr=log, **as_user)  # type: ignore[call-overload]
    uri = f"postgresql://steady:{password}@127.0.0.1:{port}"

    def answers() -> bool:
        try:
            psycopg.connect(f"{uri}/postgres", connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        _wait(answers, process, folder / "log")
        with psycopg.connect(f"{uri}/postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE mlflow")
        yield f"{uri}/mlflow"
    finally:
        process.send_signal(signal.SIGINT)  # fast shutdown
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


@contextmanager
def s3(folder: Path, *buckets: str) -> Iterator[str]:
    """An S3 API with empty buckets; its endpoint. Takes any key."""
    import boto3

    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, {}, folder / "s3.log", f"{endpoint}/moto-api/"):
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        for bucket in buckets:
            client.create_bucket(Bucket=bucket)
        yield endpoint


@dataclass
class Mlflow:
    """`steady ui --serve`."""

    recipe: Path
    port: int
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "cluster", "ui", str(self.recipe), "--serve", "--port", str(self.port)]
        self.process = _start(command, self.environment, self.log)
        _wait(lambda: _answers(f"{self.uri}/health"), self.process, self.log)

    def signal(self, number: int) -> None:
        """Send a signal to it and its workers."""
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """End it and its workers at once."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()


@contextmanager
def running(command: list[str], environment: Mapping[str, str], log: Path, url: str) -> Iterator[None]:
    """A server as a process of its own, from when it answers at ``url``."""
    process = _start(command, environment, log)
    try:
        _wait(lambda: _answers(url), process, log)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _start(command: list[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with open(log, "ab") as file:
        variables = {**os.environ, **environment}
        return subprocess.Popen(command, cwd=ROOT, env=variables, stdout=file, stderr=file, start_new_session=True)


def _wait(answers: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 240
    while not answers():
        assert process.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
        time.sleep(0.3)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
