"""Which MLflow run belongs to a folder: ``mlflow.json``, so that the same folder always continues the same run."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ground.errors import CorruptError
from ground.files import canonical_json, write_atomic

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

FILE_NAME = "mlflow.json"
_KEY_TAG = "steady.key"

# A child's sender may create its parent's run: two threads of this process must not both do so.
_creating = threading.RLock()


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """Everything needed to create the run later, should MLflow be out of reach now."""

    key: str
    """Random; also a tag of the run, so that a kill between creating and noting it leaves no second run."""
    experiment_id: str
    name: str
    tags: dict[str, str]
    started_ms: int
    parent_folder: str | None
    run_id: str | None = None


def new_identity(experiment_id: str, name: str, tags: Mapping[str, str], parent: Path | None) -> RunIdentity:
    """The identity of a run that does not exist yet."""
    folder = str(parent.resolve()) if parent is not None else None
    return RunIdentity(uuid.uuid4().hex, experiment_id, name, dict(tags), int(time.time() * 1000), folder)


def load_identity(folder: Path) -> RunIdentity | None:
    """The identity kept in ``folder``, or None when there is none.

    Raises:
        CorruptError: the file is not what :func:`save_identity` wrote.
    """
    path = folder / FILE_NAME
    try:
        return RunIdentity(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise CorruptError(str(path), "is unreadable", "remove it to start a new MLflow run") from None


def save_identity(folder: Path, identity: RunIdentity) -> None:
    """Keep ``identity`` in ``folder``, atomically."""
    write_atomic(folder / FILE_NAME, canonical_json(asdict(identity)))


def ensure_run(folder: Path, client: MlflowClient) -> str:
    """The id of the folder's run, created (its parent first) if it does not exist.

    Raises:
        CorruptError: the folder, or the parent's, has no readable identity.
        Exception: MLflow is out of reach.
    """
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    with _creating:
        identity = load_identity(folder)
        if identity is None:
            raise CorruptError(str(folder / FILE_NAME), "is missing", "start the run again")
        if identity.run_id is not None:
            return identity.run_id
        found = client.search_runs([identity.experiment_id], f"tags.`{_KEY_TAG}` = '{identity.key}'", max_results=1)
        if found:
            run_id = found[0].info.run_id
        else:
            tags = {**identity.tags, _KEY_TAG: identity.key}
            if identity.parent_folder is not None:
                tags[MLFLOW_PARENT_RUN_ID] = ensure_run(Path(identity.parent_folder), client)
            run_id = client.create_run(identity.experiment_id, identity.started_ms, tags, identity.name).info.run_id
        save_identity(folder, replace(identity, run_id=run_id))
        return str(run_id)
