"""`steady ui`: the MLflow server over a recipe's runs, on this machine only unless asked otherwise.

With ``--serve`` it is a server for a team: it starts before there are any runs, keeps the artifacts itself, and runs on other
machines record into it by ``tracking.uri: http://...``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.console import console
from cluster.recipe import Recipe
from ground.errors import UserError
from tracking.config import TrackingConfig
from tracking.connect import connect, prepare_environment, sqlite_path
from tracking.overview import overview_path
from tracking.redact import redact

BACKEND, ARTIFACTS = "MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION"
"""MLflow's own variables: another database, another place for artifacts. The only way in for a password, since command
lines are seen by everyone on a machine."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Server:
    """What to start."""

    command: list[str]
    environment: dict[str, str]
    backend: str
    """URI of the database, which may hold a password."""
    artifacts: str
    """Folder or URL of what clients upload through the server."""


def serve(
    recipe: Recipe, host: str, port: int, *, shared: bool = False, workers: int = 1, allowed_hosts: Sequence[str] = ()
) -> None:
    """Run the MLflow server until interrupted.

    Args:
        shared: for runs of other machines too; starts an empty store where there is none.
        workers: processes that answer requests.
        allowed_hosts: names under which browsers and runs reach it, besides localhost and private addresses.

    Raises:
        UserError: there is nothing to show, the store refuses, or the server could not start.
    """
    if not shared and (recipe.tracking.uri or "").startswith(("http://", "https://")):
        console.print(f"the runs are on a server already: open {redact(str(recipe.tracking.uri))}")
        return
    server = plan_server(recipe, host, port, workers=workers, allowed_hosts=allowed_hosts, environment=os.environ)
    file = sqlite_path(server.backend)
    if not shared and file is not None and not file.is_file():
        raise UserError("tracking.uri", f"{file} does not exist yet", "run `steady train` with this recipe first")
    _say(recipe, server, host, port, shared=shared)
    try:
        code = subprocess.run(server.command, env=server.environment, check=False).returncode
    except KeyboardInterrupt:
        return
    if code:
        raise UserError(
            "--port", f"the MLflow server ended with code {code}", "choose another port with --port if it is taken"
        )


def plan_server(
    recipe: Recipe,
    host: str,
    port: int,
    *,
    workers: int,
    allowed_hosts: Sequence[str],
    environment: Mapping[str, str],
) -> Server:
    """The server's command line and environment; starts nothing.

    The database is that of ``MLFLOW_BACKEND_STORE_URI``, else the recipe's, else a SQLite file in its work folder. Artifacts
    go to ``MLFLOW_ARTIFACTS_DESTINATION``, else to the folder ``artifacts`` beside them.
    """
    uri = recipe.tracking.uri
    if uri is None or uri.startswith(("http://", "https://")):  # which may be this server's own address
        uri = TrackingConfig().resolved_uri(recipe.work_folder)
    backend = environment.get(BACKEND) or uri
    artifacts = environment.get(ARTIFACTS) or str((recipe.work_folder / "artifacts").resolve())
    variables = {
        **environment,
        BACKEND: backend,
        ARTIFACTS: artifacts,
        "MLFLOW_DISABLE_TELEMETRY": environment.get("MLFLOW_DISABLE_TELEMETRY", "true"),
        # Scheduled evaluations of language-model applications: several processes that training never asks anything.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": environment.get("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false"),
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", str(workers)]
    if allowed_hosts:
        names = ["localhost", "127.0.0.1", *allowed_hosts]
        command += ["--allowed-hosts", ",".join([*names, *(f"{name}:*" for name in names if ":" not in name)])]
    return Server(command, variables, backend, artifacts)


def _say(recipe: Recipe, server: Server, host: str, port: int, *, shared: bool) -> None:
    """Where to look, and what other machines need."""
    prepare_environment()
    name = recipe.tracking.experiment or recipe.name
    found = connect(server.backend).get_experiment_by_name(name)  # creates the tables of a new store
    address = f"http://{host}:{port}"
    console.print(f"MLflow at {address} (experiment {name!r}); Ctrl-C ends it", soft_wrap=True)
    if found is not None:
        console.print(f"  the runs side by side: {address}/{overview_path(found.experiment_id)}", soft_wrap=True)
    if not shared:
        return
    console.print(f"  runs in {redact(server.backend)}, artifacts in {redact(server.artifacts)}", soft_wrap=True)
    reach = address if host not in (*_LOOPBACK, "0.0.0.0") else f"http://THIS-MACHINE:{port}"
    if host in _LOOPBACK:
        console.print(
            f"  other machines reach it through a tunnel (ssh -L {port}:127.0.0.1:{port} THIS-MACHINE) with "
            f"tracking.uri={address}",
            soft_wrap=True,
        )
    else:
        console.print(
            f"  other machines: tracking.uri={reach}; [yellow]whoever reaches that address can read and change every run"
            "[/yellow] (docs/mlflow.md: passwords)",
            soft_wrap=True,
        )
    place = str(found.artifact_location) if found is not None else ""
    if place.startswith(("file:", "/")):
        console.print(
            f"  [yellow]experiment {name!r} began without a server[/yellow]: its artifacts stay in {place}; give runs of other "
            "machines another tracking.experiment",
            soft_wrap=True,
        )
