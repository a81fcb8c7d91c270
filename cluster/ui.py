"""`steady ui`: the MLflow server over a recipe's runs, on this machine only unless asked otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

from cluster.console import console
from cluster.recipe import Recipe
from ground.errors import UserError


def serve(recipe: Recipe, host: str, port: int) -> None:
    """Run the MLflow UI until interrupted.

    Raises:
        UserError: there is nothing to show, or the server could not start.
    """
    uri = recipe.tracking.resolved_uri(recipe.work_folder)
    if uri.startswith(("http://", "https://")):
        console.print(f"the runs are on a server already: open {uri}")
        return
    if recipe.tracking.uri is None and not (recipe.work_folder / "mlflow.db").is_file():
        raise UserError("tracking.uri", f"{uri} does not exist yet", "run `steady train` with this recipe first")
    console.print(
        f"MLflow at http://{host}:{port} (experiment {recipe.tracking.experiment or recipe.name!r}); Ctrl-C ends it"
    )
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        uri,
        "--host",
        host,
        "--port",
        str(port),
    ]
    try:
        code = subprocess.run([*command, "--workers", "1"], env=os.environ, check=False).returncode
    except KeyboardInterrupt:
        return
    if code:
        raise UserError(
            "--port", f"the MLflow server ended with code {code}", "choose another port with --port if it is taken"
        )
