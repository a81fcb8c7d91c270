"""What each kind of spool record means in MLflow. Every call here may be repeated without harm."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tracking.identity import ensure_run
from tracking.sender import UndeliverableError
from tracking.spool import Record

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

MAX_METRICS = 1000
"""MLflow's limit of metrics in one ``log_batch``."""
MAX_ENTRIES = 100
"""MLflow's limit of parameters, and of tags, in one ``log_batch``."""

T = TypeVar("T")
_logger = logging.getLogger(__name__)


class Delivery:
    """Sends the records of one run folder to MLflow; creates the run if it does not exist yet.

    A record has ``metrics`` (with ``tokens`` and ``time_ms``) or one of ``params``, ``tags``, ``dataset``,
    ``artifact``, ``status``.

    Raises:
        UndeliverableError: MLflow will never take these records (when called with several: one of them).
        Exception: anything else; try again later.
    """

    def __init__(self, folder: Path, client: MlflowClient) -> None:
        self._folder, self._client = folder, client

    def __call__(self, records: Sequence[Record]) -> None:
        from mlflow.exceptions import MlflowException

        run_id = ensure_run(self._folder, self._client)
        try:
            for is_metrics, group in groupby(records, key=lambda record: "metrics" in record):
                if is_metrics:
                    self._send_metrics(run_id, group)
                else:
                    for record in group:
                        self._send(run_id, record)
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            # The same code also means "this run was deleted": then the records wait, the run may be restored.
            if self._client.get_run(run_id).info.lifecycle_stage != "active":
                raise
            raise UndeliverableError(str(error)) from error

    def _send_metrics(self, run_id: str, records: Iterable[Record]) -> None:
        from mlflow.entities import Metric

        # The step is the count of tokens seen, and the time is the record's own: the same point sent twice is the same
        # row for MLflow, which keeps one.
        points = (
            Metric(name, value, record["time_ms"], record["tokens"])
            for record in records
            for name, value in record["metrics"].items()
        )
        for batch in _batches(points, MAX_METRICS):
            self._client.log_batch(run_id, metrics=batch, synchronous=True)

    def _send(self, run_id: str, record: Record) -> None:
        if "params" in record:
            self._send_params(run_id, record["params"])
        elif "tags" in record:
            self._send_tags(run_id, record["tags"])
        elif "dataset" in record:
            self._send_dataset(run_id, record["dataset"])
        elif "artifact" in record:
            self._send_artifact(run_id, record["artifact"])
        elif record.get("status") == "RUNNING":
            self._client.update_run(run_id, status="RUNNING")
        elif "status" in record:
            self._client.set_terminated(run_id, record["status"], record["time_ms"])

    def _send_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """MLflow never changes a parameter: what a resumed run has changed becomes a tag ``changed.<name>``."""
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        for batch in _batches(params.items(), MAX_ENTRIES):
            try:
                self._client.log_batch(run_id, params=[Param(*item) for item in batch], synchronous=True)
            except MlflowException as error:
                if error.error_code != "INVALID_PARAMETER_VALUE":
                    raise
                known = self._client.get_run(run_id).data.params
                changed = {name: value for name, value in batch if known.get(name, value) != value}
                if not changed:
                    raise
                _logger.warning("parameters changed on resume, kept as tags: %s", ", ".join(sorted(changed)))
                fresh = [Param(*item) for item in batch if item[0] not in known]
                self._client.log_batch(run_id, params=fresh, synchronous=True)
                self._send_tags(run_id, {f"changed.{name}": value for name, value in changed.items()})

    def _send_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        for batch in _batches(tags.items(), MAX_ENTRIES):
            self._client.log_batch(run_id, tags=[RunTag(*item) for item in batch], synchronous=True)

    def _send_dataset(self, run_id: str, dataset: Mapping[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

        source = str(dataset["source"])
        entity = Dataset(
            name=dataset["name"],
            digest=dataset["digest"],
            source_type=source.partition("://")[0] if "://" in source else "local",
            source=json.dumps({"uri": source}),
            profile=json.dumps(dataset["profile"], sort_keys=True),
        )
        tags = [InputTag(MLFLOW_DATASET_CONTEXT, dataset["context"])]
        self._client.log_inputs(run_id, [DatasetInput(entity, tags)])

    def _send_artifact(self, run_id: str, artifact: Mapping[str, str | None]) -> None:
        path = Path(str(artifact["path"]))
        if not path.exists():
            raise UndeliverableError(f"the artifact {path} is gone")
        if path.is_dir():
            self._client.log_artifacts(run_id, str(path), artifact["folder"])
        else:
            self._client.log_artifact(run_id, str(path), artifact["folder"])


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
