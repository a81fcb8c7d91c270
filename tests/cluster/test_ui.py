"""What `steady ui` starts and says; a real server is in tests/tracking/test_server.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster import ui
from cluster.recipe import Recipe, load_recipe
from ground.errors import UserError
from tests.helpers.recipes import run_steady, small_recipe
from tracking.runs import Tracker


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return small_recipe(tmp_path, with_store=False)


def plan(recipe: Recipe, environment: dict[str, str], *hosts: str) -> ui.Server:
    return ui.plan_server(recipe, "127.0.0.1", 5000, workers=3, allowed_hosts=hosts, environment=environment)


def test_the_defaults_are_a_file_and_a_folder(path: Path, tmp_path: Path) -> None:
    server = plan(load_recipe(path), {"PATH": "/bin"})
    assert server.backend == f"sqlite:///{tmp_path / 'work' / 'mlflow.db'}" == server.environment[ui.BACKEND]
    assert server.artifacts == str(tmp_path / "work" / "artifacts") == server.environment[ui.ARTIFACTS]
    assert server.command[-6:] == ["--host", "127.0.0.1", "--port", "5000", "--workers", "3"]
    assert server.environment["PATH"] == "/bin"


def test_an_address_of_a_server_is_not_its_database(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path, ["tracking.uri=http://127.0.0.1:5000"])
    assert plan(recipe, {}).backend == f"sqlite:///{tmp_path / 'work' / 'mlflow.db'}"
    assert plan(load_recipe(path, ["tracking.uri=postgresql://a@b/c"]), {}).backend == "postgresql://a@b/c"


def test_a_password_is_not_on_the_command_line(path: Path) -> None:
    variables = {ui.BACKEND: "postgresql://me:hunter2@db/mlflow", ui.ARTIFACTS: "s3://bucket/mlflow"}
    server = plan(load_recipe(path), variables)
    assert "hunter2" not in " ".join(server.command)
    assert (server.backend, server.artifacts) == (variables[ui.BACKEND], variables[ui.ARTIFACTS])


def test_names_it_may_be_reached_by(path: Path) -> None:
    hosts = plan(load_recipe(path), {}, "mlflow.lab", "10.0.0.7:8443").command[-1].split(",")
    assert {"localhost", "localhost:*", "mlflow.lab", "mlflow.lab:*", "10.0.0.7:8443"} <= set(hosts)
    assert "--allowed-hosts" not in plan(load_recipe(path), {}).command


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that would have been run."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(ui, "subprocess", SimpleNamespace(run=run))  # not the module: imports use it too
    return commands


def test_without_runs_only_serve_starts(
    path: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = run_steady(monkeypatch, capsys, "ui", str(path))
    assert ran.code == 2 and "does not exist yet" in ran.err and not started
    ran = run_steady(monkeypatch, capsys, "ui", str(path), "--serve")
    assert ran.code == 0 and len(started) == 1
    assert "ssh -L 5000:127.0.0.1:5000" in ran.out and "tracking.uri=http://127.0.0.1:5000" in ran.out
    ran = run_steady(monkeypatch, capsys, "ui", str(path), "--serve", "--host", "0.0.0.0")
    assert "whoever reaches that address can read and change every run" in ran.out


def test_it_says_what_cannot_be_shared(
    path: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load_recipe(path)
    tracker = Tracker.open(recipe.tracking.resolved_uri(recipe.work_folder), recipe.name)
    ran = run_steady(monkeypatch, capsys, "ui", str(path), "--serve")
    assert "experiment 'small' began without a server" in ran.out
    assert f"/experiments/{tracker.experiment_id}/runs?workflowType=machine_learning" in ran.out
    ran = run_steady(monkeypatch, capsys, "ui", str(path))
    assert ran.code == 0 and "began without a server" not in ran.out and len(started) == 2


def test_runs_on_a_server_are_looked_at_there(
    path: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = run_steady(monkeypatch, capsys, "ui", str(path), "tracking.uri=http://me:hunter2@mlflow.lab")
    assert ran.code == 0 and "open http://***@mlflow.lab" in ran.out and not started


def test_a_taken_port(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    taken = SimpleNamespace(run=lambda *_, **__: SimpleNamespace(returncode=1))
    monkeypatch.setattr(ui, "subprocess", taken)
    ran = run_steady(monkeypatch, capsys, "ui", str(path), "--serve")
    assert ran.code == 2 and "choose another port" in ran.err


def test_artifacts_behind_a_server_need_its_address(tmp_path: Path) -> None:
    """Else a run would wait for ever to upload a report."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = Tracker.open(uri, "other").client
    client.create_experiment("served", artifact_location="mlflow-artifacts:/7")
    with pytest.raises(UserError, match=r"kept by a server.*set tracking\.uri"):
        Tracker.open(uri, "served")
