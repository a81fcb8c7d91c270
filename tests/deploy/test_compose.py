"""The compose file: the specification's schema, what Compose would make of it, and its MLflow with a real PostgreSQL."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import yaml

from tests.deploy.definitions import DEPLOY, PINS, leaves, read
from tests.helpers.servers import KEYS, free_port, missing_for_servers, postgres, running, s3

COMPOSE = DEPLOY / "compose"
SECRET = "0123456789abcdef0123456789abcdef"


class Missing(Exception):
    """A variable that must be set is not."""


def interpolated(text: str, environment: dict[str, str]) -> str:
    """What Compose puts in for ``${NAME:?message}``; every other form would be a default, and is refused."""

    def value(match: re.Match[str]) -> str:
        if not environment.get(match["name"]):
            raise Missing(f"{match['name']}: {match['message']}")
        return environment[match["name"]]

    done = re.sub(r"\$\{(?P<name>[A-Z0-9_]+):\?(?P<message>[^}]+)\}", value, text)
    assert "$" not in done, "a variable with a default, or without a check"
    return done


def variables() -> dict[str, str]:
    """What .env.example asks for."""
    lines = (COMPOSE / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    filled = dict.fromkeys(variables(), SECRET)
    return yaml.safe_load(interpolated((COMPOSE / "compose.yaml").read_text(), filled))  # type: ignore[no-any-return]


def schema() -> dict[str, Any]:
    """The Compose specification's own schema, which check-jsonschema brings."""
    pytest.importorskip("check_jsonschema")
    text = files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text()
    return json.loads(text)  # type: ignore[no-any-return]


def test_it_is_a_compose_file(compose: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.validators.validator_for(schema())(schema())
    check.validate(compose)
    wrong = compose | {"services": compose["services"] | {"mlflow": compose["services"]["mlflow"] | {"port": []}}}
    with pytest.raises(jsonschema.ValidationError):
        check.validate(wrong)


def test_no_password_has_a_default() -> None:
    assert all(value == "" for value in variables().values())
    text = (COMPOSE / "compose.yaml").read_text()
    asked = set(re.findall(r"\$\{([A-Z0-9_]+)", text))
    assert asked == set(variables()), "the example and the file ask for different things"
    for name in asked:
        with pytest.raises(Missing, match=name):
            interpolated(text, dict.fromkeys(asked - {name}, SECRET))
    for path, value in leaves(read("compose/compose.yaml")):
        if re.search(r"PASSWORD|SECRET|ACCESS_KEY", path[-1]):
            assert str(value).startswith("${"), path


def test_no_secret_is_in_a_command_line(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert SECRET not in json.dumps([service.get("command"), service.get("healthcheck")])


def test_ports_are_open_on_this_machine_only(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert "ports" not in compose["services"]["postgres"]
    assert compose["networks"]["backend"]["internal"] is True
    assert compose["services"]["postgres"]["networks"] == ["backend"]


def test_services_start_in_order(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[other], f"{name} would wait for ever for {other}"
            else:
                assert services[other]["restart"] == "no", f"{other} would never be completed"
    assert services["mlflow"]["depends_on"] == {
        "postgres": {"condition": "service_healthy"},
        "bucket": {"condition": "service_completed_successfully"},
    }
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"bucket"}


def test_containers_can_do_little(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "network_mode", "pid"} & set(service), name
    for volume in [v for s in compose["services"].values() for v in s.get("volumes", [])]:
        assert volume.split(":")[0] in compose["volumes"], "a folder of the host"


def test_versions_are_those_of_the_repository(compose: dict[str, Any]) -> None:
    pins = dict(
        re.sub(r"\[.*\]", "", line).split("==")
        for line in (COMPOSE / "mlflow/requirements.txt").read_text().splitlines()
    )
    for name in ("mlflow", "SQLAlchemy"):
        assert pins[name] == PINS[name]
    assert compose["services"]["mlflow"]["image"] == f"steady-mlflow:{PINS['mlflow']}"
    for service in compose["services"].values():
        assert re.search(r":v?\d+\.\d+(\.\d+)?", service["image"]), f"{service['image']} is not pinned"


@pytest.mark.long
@pytest.mark.skipif(missing_for_servers() is not None, reason=str(missing_for_servers()))
def test_its_mlflow_runs_with_users_on_postgresql_and_s3(compose: dict[str, Any], tmp_path: Path) -> None:
    """The command and the environment of the service, with other addresses: who has no password gets nothing."""
    pytest.importorskip("flask_wtf")
    service, url = compose["services"]["mlflow"], f"http://127.0.0.1:{free_port()}"
    with postgres() as database, s3(tmp_path) as store:
        where = urlsplit(database)

        def here(text: str) -> str:
            text = text.replace("mlflow@postgres:5432", f"{where.username}@{where.hostname}:{where.port}")
            return text.replace("http://s3:7070", store)

        auth = tmp_path / "auth.ini"
        auth.write_text(here((COMPOSE / "mlflow/auth.ini").read_text()))
        environment = {name: here(value) for name, value in service["environment"].items()} | KEYS
        environment |= {"MLFLOW_AUTH_CONFIG_PATH": str(auth), "PGPASSWORD": str(where.password)}
        for _ in range(2):  # making the bucket again changes nothing
            command = [sys.executable, str(COMPOSE / "mlflow/make_bucket.py"), "mlflow"]
            subprocess.run(command, env=os.environ | environment, check=True)

        command = [sys.executable, "-m", *map(here, service["command"])]
        command += [f"--port={urlsplit(url).port}", "--host=127.0.0.1", "--workers=1"]  # the last one counts
        log = tmp_path / "log"
        with running(command, environment, log, f"{url}/health"):
            check_users(url)
            check_artifacts(url, store)
        text = log.read_text()
        assert SECRET not in text
        assert str(where.password) not in text


def check_users(url: str) -> None:
    """Without the right password, or from a foreign page, there is nothing."""
    search = f"{url}/api/2.0/mlflow/experiments/search"

    def asked(login: tuple[str, str] | None) -> int:
        return requests.post(search, json={"max_results": 1}, auth=login, timeout=60).status_code

    assert [asked(None), asked(("admin", "password1234")), asked(("admin", SECRET))] == [401, 401, 200]
    foreign = requests.get(url, headers={"Host": "evil.example"}, auth=("admin", SECRET), timeout=60)
    assert foreign.status_code == 403, "a foreign page could read it through the browser of who is logged in"


def check_artifacts(url: str, store: str) -> None:
    """A client without keys of the store writes a file to it, and reads it again."""
    import boto3

    client = (
        "import mlflow\n"
        "mlflow.set_experiment('team')\n"
        "with mlflow.start_run() as run:\n"
        "    mlflow.log_metric('loss', 2.5)\n"
        "    mlflow.log_text('hello', 'note.txt')\n"
        "print(mlflow.artifacts.load_text(run.info.artifact_uri + '/note.txt'))\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"MLFLOW_TRACKING_URI": url, "MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": SECRET}
    done = subprocess.run([sys.executable, "-c", client], env=environment, capture_output=True, text=True, check=False)
    assert "hello" in done.stdout, done.stderr[-2000:]
    names = {"aws_access_key_id": KEYS["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": KEYS["AWS_SECRET_ACCESS_KEY"]}
    objects = boto3.client("s3", endpoint_url=store, region_name="us-east-1", **names).list_objects_v2(Bucket="mlflow")
    assert [item["Key"].rsplit("/", 1)[-1] for item in objects["Contents"]] == ["note.txt"]
