"""The commands for jobs on this side of the wire: what is parsed, who is asked, what is shown, how they end."""

from __future__ import annotations

import builtins
import dis
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import CodeType, FunctionType, SimpleNamespace
from typing import Any

import pytest

from cluster import cli, jobs, probe
from cluster import submit as api
from cluster.dashboard import accepted_headers, asks_for_credentials
from cluster.job_command import parse
from cluster.preflight import judge_token
from ground.errors import UserError
from tests.helpers.recipes import run_steady, small_recipe

_TOKEN = "planted-9d2c41"


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_JOB_HEADERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@contextmanager
def _dashboard(token: str | None) -> Iterator[tuple[str, list[str | None]]]:
    """A server that asks for ``token``: its URL, and the Authorization headers it was sent."""
    sent: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent.append(self.headers.get("Authorization"))
            code = 200 if token is None or sent[-1] == f"Bearer {token}" else 403 if sent[-1] else 401
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps({"version": "4", "ray_version": "2.60.0"}).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", sent
    finally:
        server.shutdown()
        server.server_close()


def test_the_recipe_is_found_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").mkdir()
    path = small_recipe(tmp_path / "recipes", work="/shared/small")
    monkeypatch.chdir(tmp_path / "recipes")
    command = parse(cli.app, ["train", "recipe.yaml", "--only", "small", "training.workers=2"], tmp_path)
    assert command.arguments == ("train", "recipes/recipe.yaml", "--only", "small", "training.workers=2")
    assert command.recipe.training.workers == 2
    with pytest.raises(UserError, match="is not below the working directory"):
        parse(cli.app, ["train", str(path)], tmp_path / "recipes" / "corpora")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no command follows; write `steady submit -- train RECIPE`"),
        (("ui", "recipe.yaml"), "'ui' does not run as a job"),
        (("train", "nothing.yaml"), "there is no file 'nothing.yaml'"),
        (("train", "recipe.yaml", "--onyl", "x"), "No such option: --onyl"),
        (("train", "recipe.yaml", "training.wrokers=2"), "training.wrokers: is no field of a recipe"),
        (("train", "recipe.yaml", "work=out"), "work: 'out' is relative"),
        (("train", "recipe.yaml", "curation.store=s"), "curation.store: 's' is relative"),
        (("curate", "recipe.yaml", "curation.work=w"), "curation.work: 'w' is relative"),
        (("train", "recipe.yaml", f"tracking.uri=http://me:{_TOKEN}@host"), "tracking.uri: holds credentials"),
        (("curate", "recipe.yaml", f"sources.med.paths=[https://h/x?token={_TOKEN}]"), "holds credentials"),
    ],
)
def test_a_slip_is_told_before_anything_is_asked_of_the_cluster(
    arguments: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small_recipe(tmp_path, work="/shared/small")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api, "connect", lambda *_: pytest.fail("it was asked"))
    ran = run_steady(monkeypatch, capsys, "submit", "--", *arguments)
    assert ran.code == 2
    assert said in " ".join(ran.err.split())
    assert _TOKEN not in ran.err + ran.out


def test_credentials_in_the_recipe_are_not_uploaded(tmp_path: Path) -> None:
    path = small_recipe(tmp_path, work="/shared/small", tracking={"uri": f"http://me:{_TOKEN}@host"})
    with pytest.raises(UserError, match=r"tracking\.uri: holds credentials") as told:
        parse(cli.app, ["train", str(path)], tmp_path)
    assert _TOKEN not in str(told.value)


def test_the_token_goes_only_to_a_cluster_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", _TOKEN)
    with _dashboard(None) as (url, sent):
        assert accepted_headers(url) == {}
        assert sent == [None]
    with _dashboard(_TOKEN) as (url, sent):
        assert accepted_headers(url) == {"Authorization": f"Bearer {_TOKEN}"}
        assert sent == [None, f"Bearer {_TOKEN}"]


@pytest.mark.parametrize(("token", "level"), [(None, "note"), (_TOKEN, "ok")])
def test_a_cluster_open_to_everyone_is_noted(token: str | None, level: str) -> None:
    with _dashboard(token) as (url, _):
        finding = judge_token(url, asks=asks_for_credentials(url))
    assert finding.level == level
    assert (url in finding.found and "ray get-auth-token" in finding.mend) == (token is None)


def test_the_token_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(f"{_TOKEN}\n")
    with _dashboard(_TOKEN) as (url, _):
        assert accepted_headers(url)["Authorization"] == f"Bearer {_TOKEN}"


def test_a_missing_and_a_wrong_token_are_told_apart_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with _dashboard("right") as (url, _):
        with pytest.raises(UserError, match="asks for a token and there is none"):
            accepted_headers(url)
        monkeypatch.setenv("RAY_AUTH_TOKEN", _TOKEN)
        with pytest.raises(UserError, match="refuses the token of RAY_AUTH_TOKEN") as told:
            accepted_headers(url)
    assert _TOKEN not in str(told.value)


def test_the_address_given_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    with _dashboard(None) as (url, _):
        assert api.connect(url).get_address() == url
        assert api.connect(url.removeprefix("http://")).get_address() == url
    with pytest.raises(UserError, match="does not answer"):
        api.connect(None)


def test_an_address_that_speaks_no_http_is_told() -> None:
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            connection.sendall(b"\0\0\6\4\r\n\r\n")
            connection.close()

        Thread(target=answer, daemon=True).start()
        with pytest.raises(UserError, match="speaks no HTTP"):
            accepted_headers(f"http://127.0.0.1:{server.getsockname()[1]}")


class _Client:
    """A cluster whose connection breaks in the middle of a log."""

    def __init__(self, log: str, status: str, cuts: list[int]) -> None:
        self.log, self.status, self.cuts = log, status, cuts
        self.stopped = False

    def get_address(self) -> str:
        return "http://cluster"

    async def tail_job_logs(self, _: str) -> AsyncIterator[str]:
        end = self.cuts.pop(0) if self.cuts else len(self.log)
        for start in range(0, end, 7):
            yield self.log[start : min(start + 7, end)]
        if end < len(self.log):
            raise RuntimeError("WebSocket connection closed unexpectedly")

    def get_job_logs(self, _: str) -> str:
        return self.log

    def get_job_status(self, _: str) -> Any:
        from ray.job_submission import JobStatus

        return JobStatus("RUNNING" if self.cuts else self.status)

    def stop_job(self, _: str) -> None:
        self.stopped = True


@pytest.mark.parametrize(("status", "code"), [("SUCCEEDED", 0), ("FAILED", 1), ("STOPPED", 1)])
def test_a_log_is_shown_once_through_broken_connections(
    status: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    log = "".join(f"line {number}\n" for number in range(40))
    client = _Client(log, status, [10, 95, 95])
    assert jobs._follow(client, "job", pause=0) == code  # type: ignore[arg-type]
    shown = capsys.readouterr().out
    assert shown.startswith(log) and shown.removeprefix(log) == f"job: {status}\n"


def test_an_interrupt_leaves_the_job_running(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "follow", interrupted)
    client = _Client("", "RUNNING", [])
    assert jobs._follow(client, "job") == 130  # type: ignore[arg-type]
    assert not client.stopped
    assert (
        "job goes on. Follow it: steady jobs logs job --follow; stop it: steady jobs stop job"
        in capsys.readouterr().out
    )


def test_a_broken_check_submits_nothing_unless_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_recipe(tmp_path, work=str(tmp_path / "shared"))
    monkeypatch.chdir(tmp_path)
    started: list[Any] = []
    monkeypatch.setattr(api, "connect", lambda _: _Client("", "SUCCEEDED", []))
    monkeypatch.setattr(api, "look_at_nodes", lambda *_: {"nodes": [], "unseen": {}, "silent": ["n1"], "resources": {}})
    monkeypatch.setattr(api, "start", lambda *given: started.append(given))
    monkeypatch.setattr(jobs, "asks_for_credentials", lambda _: True)
    ran = run_steady(monkeypatch, capsys, "submit", "--", "train", "recipe.yaml")
    assert ran.code == 2 and started == []
    assert "n1 did not answer" in ran.err and "--force submits all the same" in ran.err
    ran = run_steady(monkeypatch, capsys, "submit", "--force", "--python", "python3", "--", "train", "recipe.yaml")
    assert ran.code == 0
    _, entrypoint, folder, _, job, _ = started[0]
    assert entrypoint == ["python3", "-m", "cluster", "train", "recipe.yaml"] and folder == Path()
    assert f"dashboard  http://cluster/#/jobs/{job}" in ran.out and "MLflow     steady ui recipe.yaml" in ran.out


def test_a_job_says_nothing_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", _TOKEN)
    sent: dict[str, Any] = {}
    client = SimpleNamespace(get_address=lambda: "http://cluster", submit_job=lambda **given: sent.update(given))
    api.start(client, ["python", "-m", "cluster", "train", "a b.yaml"], tmp_path, [".env"], "job", {"steady": "train"})  # type: ignore[arg-type]
    assert sent["entrypoint"] == "python -m cluster train 'a b.yaml'"
    assert sent["runtime_env"]["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": "600"}
    assert _TOKEN not in json.dumps(sent)


def test_errors_of_ray_lose_their_credentials() -> None:
    with pytest.raises(UserError) as told, api.told(f"http://me:{_TOKEN}@cluster"):
        raise RuntimeError(f"Request failed with status code 500: http://x?token={_TOKEN} broke\n at line 2")
    assert _TOKEN not in str(told.value)
    assert "Request failed with status code 500" in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("patience", [None, "60"])
def test_a_job_joins_its_cluster_and_asks_for_time_to_stop(
    patience: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from cluster.session import session

    given = {"OMP_NUM_THREADS": "4"} | ({"RAY_JOB_STOP_WAIT_TIME_S": patience} if patience else {})
    told = {"runtime_env": {"env_vars": given}, "metadata": {"job_submission_id": "abc"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(told))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    began: dict[str, Any] = {}
    asked: list[str] = []

    def no_actor(name: str, **_: object) -> Any:
        asked.append(name)
        raise ValueError("this Ray calls it something else")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: began.update(options))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "get_actor", no_actor)
    with session("ray://outside:10001"):
        pass
    assert began["address"] == "10.0.0.1:6379"
    names = began["runtime_env"]["env_vars"]
    assert "OMP_NUM_THREADS" not in names, "Ray refuses to be told twice"
    assert "OMP_WAIT_POLICY" in names
    assert asked == ([] if patience else ["_ray_internal_job_actor_abc"])


def _globals(code: CodeType) -> set[str]:
    """Names that a function and those within it look up in its module."""
    inner = [_globals(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}.union(*inner)


@pytest.mark.parametrize("sent", [api._main_of_the_look, probe.end_driver])
def test_what_is_sent_to_the_nodes_names_nothing_of_its_module(sent: FunctionType) -> None:
    """Only the text of these functions travels."""
    assert _globals(sent.__code__) <= set(dir(builtins))


@pytest.mark.slow
def test_the_look_itself(tmp_path: Path) -> None:
    """As it is sent, on a Ray of its own."""
    api._write_look(tmp_path)
    asked = {"packages": ["ray"], "work": str(tmp_path / "work"), "mark": "m", "tracking": None, "paths": ["/nowhere"]}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "preflight.py", json.dumps(asked)]
    done = subprocess.run(
        command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(api._MARK)] or [done.stderr]
    told = json.loads(line.removeprefix(api._MARK))
    (node,) = told["nodes"]
    assert node["missing"] == ["/nowhere"] and node["storage"]["error"] == ""
    assert told["silent"] == [] and told["resources"]["CPU"] >= 1
    assert not list((tmp_path / "work").glob(".*")), "the marks are gone"
