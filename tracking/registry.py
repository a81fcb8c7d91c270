"""The MLflow model registry: a version of a named model for an exported folder, linked to the run that trained it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ground.errors import UserError
from tracking.redact import redact

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_MAX_DESCRIPTION = 5000  # characters that MLflow's SQL stores keep of one
_MORE = "\n\n(The rest is in the model's README.md.)"


def register_model(
    client: MlflowClient, name: str, folder: Path, path: str, *, run_id: str, tags: Mapping[str, str], description: str
) -> str:
    """Register ``folder`` as a new version of the model ``name``; the number of the version.

    The files are copied to the run's artifacts, where a version stays what it was and every server finds it. A folder that
    is registered with equal tags already gives no second version.

    Args:
        path: where among the run's artifacts.
        tags: of the version; they tell what the folder holds, its digest among them.
        description: Markdown, cut to MLflow's 5,000 characters.

    Raises:
        UserError: MLflow does not know the run, or refuses the name.
    """
    from mlflow.exceptions import MlflowException

    try:
        artifacts = client.get_run(run_id).info.artifact_uri
    except MlflowException:
        mend = "set MLFLOW_TRACKING_URI to the store that has it"
        raise UserError("--register", f"MLflow has no run {run_id}", mend) from None
    try:
        _create_model(client, name)
        known = _registered(client, name, run_id, tags)
        if known is not None:
            return known
        client.log_artifacts(run_id, str(folder), path)
        source = f"{artifacts.rstrip('/')}/{path}"
        made = client.create_model_version(name, source, run_id, tags=dict(tags), description=_cut(description))
    except MlflowException as error:
        reason = redact(str(error).partition("\n")[0][:240])
        raise UserError("--register", f"{name!r} is refused ({reason})", "use another name") from None
    return str(made.version)


def _create_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _registered(client: MlflowClient, name: str, run_id: str, tags: Mapping[str, str]) -> str | None:
    """The version that holds the same already."""
    quoted = name.replace("'", "\\'")
    for version in client.search_model_versions(f"name='{quoted}'"):
        if version.run_id == run_id and dict(version.tags) == dict(tags):
            return str(version.version)
    return None


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_DESCRIPTION else text[: _MAX_DESCRIPTION - len(_MORE)] + _MORE
