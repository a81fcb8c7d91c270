"""The MLflow experiment of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ground.errors import UserError
from tracking.connect import sqlite_path
from tracking.redact import redact

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


def open_experiment(
    client: MlflowClient, uri: str, name: str, artifact_root: Path | str | None, labels: Mapping[str, str]
) -> str:
    """The id of the experiment ``name``, created if it does not exist, with its labels.

    Args:
        uri: of the store.
        artifact_root: folder or URL for artifacts of a new experiment. None: beside the SQLite file, or the server's default.
        labels: tags of the experiment.

    Raises:
        UserError: it was deleted, or the store refuses.
    """
    from mlflow.exceptions import MlflowException

    database = sqlite_path(uri)
    if artifact_root is None and database is not None:
        artifact_root = database.parent / "artifacts"
    if artifact_root is not None and "://" not in str(artifact_root):
        artifact_root = Path(artifact_root).resolve().as_uri()
    try:
        found = client.get_experiment_by_name(name)
        if found is None:
            location = str(artifact_root) if artifact_root is not None else None
            experiment_id = client.create_experiment(name, artifact_location=location)
        elif found.lifecycle_stage != "active":
            mend = "restore it in the MLflow UI or choose another name"
            raise UserError("tracking.experiment", f"{name!r} was deleted", mend)
        else:
            experiment_id = found.experiment_id
        for label, value in labels.items():
            client.set_experiment_tag(experiment_id, label, redact(str(value)))
    except MlflowException as error:
        reason = redact(str(error).partition("\n")[0][:240])
        mend = "check the name, and that this user may write"
        raise UserError("tracking.experiment", f"{name!r} cannot be opened ({reason})", mend) from None
    return str(experiment_id)
