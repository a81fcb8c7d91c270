"""The MLflow experiment of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ground.errors import UserError
from tracking.connect import sqlite_path
from tracking.overview import with_link
from tracking.redact import redact

if TYPE_CHECKING:
    from mlflow.entities import Experiment
    from mlflow.tracking import MlflowClient

NOTE = "mlflow.note.content"
"""Tag whose Markdown MLflow shows as the description of an experiment or a run."""


def open_experiment(
    client: MlflowClient, uri: str, name: str, artifact_root: Path | str | None, labels: Mapping[str, str]
) -> str:
    """The id of the experiment ``name``, created if it does not exist, with its labels.

    Args:
        uri: of the store.
        artifact_root: folder or URL for artifacts of a new experiment. None: beside the SQLite file, or the server's default.
        labels: tags of the experiment.

    Raises:
        UserError: it was deleted, its artifacts are behind a server and ``uri`` is not, or the store refuses.
    """
    from mlflow.exceptions import MlflowException

    database = sqlite_path(uri)
    if artifact_root is None and database is not None:
        artifact_root = database.parent / "artifacts"
    if artifact_root is not None and "://" not in str(artifact_root):
        artifact_root = Path(artifact_root).resolve().as_uri()
    location = str(artifact_root) if artifact_root is not None else None
    try:
        found = client.get_experiment_by_name(name) or _create(client, name, location)
        if found.lifecycle_stage != "active":
            mend = "restore it in the MLflow UI or choose another name"
            raise UserError("tracking.experiment", f"{name!r} was deleted", mend)
        if str(found.artifact_location).startswith("mlflow-artifacts:") and not uri.startswith("http"):
            mend = "set tracking.uri to the server's http address, or choose another tracking.experiment"
            problem = f"the artifacts of {name!r} are kept by a server, {redact(uri)} is none"
            raise UserError("tracking.uri", problem, mend)
        _label(client, found, labels)
    except MlflowException as error:
        reason = redact(str(error).partition("\n")[0][:240])
        mend = "check the name, and that this user may write"
        raise UserError("tracking.experiment", f"{name!r} cannot be opened ({reason})", mend) from None
    return str(found.experiment_id)


def _create(client: MlflowClient, name: str, location: str | None) -> Experiment:
    """A new experiment, or the one that another job has made at the same moment."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_experiment(client.create_experiment(name, artifact_location=location))
    except MlflowException:
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return found


def _label(client: MlflowClient, experiment: Experiment, labels: Mapping[str, str]) -> None:
    """Set the tags that differ. Of two jobs that set the same at once a database may refuse one, which then finds it done."""
    from mlflow.exceptions import MlflowException

    noted = with_link(labels.get(NOTE, ""), experiment.experiment_id, labels)
    wanted = {name: redact(str(value)) for name, value in labels.items()} | ({NOTE: redact(noted)} if noted else {})
    known = dict(experiment.tags)
    for name in (name for name, value in wanted.items() if known.get(name) != value):
        try:
            client.set_experiment_tag(experiment.experiment_id, name, wanted[name])
        except MlflowException:
            if client.get_experiment(experiment.experiment_id).tags.get(name) != wanted[name]:
                raise
