"""The MLflow run tree of a recipe: an experiment, a parent run, one child for each training run.

Everything a run records goes into its folder's spool first (``tracking.spool``) and from there to MLflow in the
background, through ``MlflowClient`` with explicit ids: no global state, and an outage never reaches the caller.
"""

from __future__ import annotations

import json
import logging
import math
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from tracking.connect import Unreachable, connect_or_wait
from tracking.delivery import Delivery
from tracking.experiment import NOTE, open_experiment
from tracking.identity import RunIdentity, ensure_run, load_identity, new_identity, save_identity
from tracking.late import PENDING, LateClient
from tracking.redact import redact
from tracking.sender import Sender, drain
from tracking.spool import Spool
from tracking.system import SystemMetrics

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

Status = Literal["FINISHED", "FAILED", "KILLED"]

_MAX_PARAM, _MAX_TAG, _MAX_NAME, _MAX_DIGEST = 6000, 8000, 250, 36
_METRIC_NAME = re.compile(r"[A-Za-z0-9_][\w.\- :]*(/[A-Za-z0-9_][\w.\- :]*)*", re.ASCII)
_NOT_IN_NAME = re.compile(r"[^\w.\- :/]", re.ASCII)
_END_S, _END_AWAY_S = 30.0, 1.0
_logger = logging.getLogger(__name__)


class Tracker:
    """One experiment in one MLflow store. Make it with :meth:`open`."""

    def __init__(self, client: MlflowClient, experiment_id: str, shown_uri: str, unreachable: str = "") -> None:
        self.client, self.experiment_id, self.shown_uri = client, experiment_id, shown_uri
        self.unreachable = unreachable
        """Why nobody could be asked when it was opened; empty: somebody answered."""

    @classmethod
    def open(
        cls,
        uri: str,
        experiment: str,
        artifact_root: Path | str | None = None,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        *,
        or_later: bool = False,
    ) -> Tracker:
        """Connect, and create the SQLite file and the experiment if they do not exist.

        Args:
            uri: MLflow tracking URI.
            experiment: its name.
            artifact_root: folder or URL for artifacts of a new experiment. None: beside the SQLite file, or the
                server's default.
            description: Markdown shown on the experiment's page.
            tags: further tags of the experiment.
            or_later: when nobody answers, return a tracker all the same: what is recorded waits in the runs' folders.

        Raises:
            UserError: the store refuses (within about 15 seconds), or the experiment was deleted.
        """
        root, labels = artifact_root, {**(tags or {}), **({NOTE: description} if description else {})}

        def open_store() -> tuple[MlflowClient, str]:
            client = connect_or_wait(uri)  # before the first import of MLflow, which reads the environment
            return client, open_experiment(client, uri, experiment, root, labels)

        def try_again() -> tuple[MlflowClient, str]:
            try:
                return open_store()
            except Unreachable as nobody:
                raise nobody.mistake from None

        try:
            client, experiment_id = open_store()
        except Unreachable as nobody:
            if not or_later:
                raise nobody.mistake from None
            late = cast("MlflowClient", LateClient(try_again, nobody.mistake))
            return cls(late, PENDING, redact(uri), unreachable=nobody.mistake.problem)
        return cls(client, experiment_id, redact(uri))

    def run(
        self,
        name: str,
        folder: Path,
        parent: RunLog | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        description: str = "",
    ) -> RunLog:
        """Start the run of ``folder``, or continue it: the id is kept in ``<folder>/mlflow.json``.

        If MLflow has lost or deleted that run, a new one is created and filled from the spool.

        Args:
            name: shown in MLflow.
            folder: belongs to this run alone; holds its identity and its spool.
            parent: the run above it.
            tags, params: recorded at once.
            description: Markdown shown on the run's page.

        Raises:
            OSError: the folder cannot be written.
            CorruptError: ``mlflow.json`` is unreadable.
        """
        self._name_experiment(folder)
        identity = load_identity(folder)
        lost = identity is not None and self._is_lost(identity)
        labels = {"mlflow.source.name": "steady", **(tags or {}), **({NOTE: description} if description else {})}
        labels = _tag_values(labels)
        continued = identity is not None and not lost
        if not continued:
            save_identity(folder, new_identity(self.experiment_id, name, labels, parent.folder if parent else None))
        spool = Spool(folder)
        if lost:
            _logger.warning("%s has no run %s any more; a new one is filled from %s", self.shown_uri, name, spool.path)
            spool.send_again()
        if continued:
            spool.append({"status": "RUNNING"})
            spool.append({"tags": labels})
        try:
            ensure_run(folder, self.client)
        except Exception as error:  # noqa: BLE001 (out of reach right now: the sender creates it later)
            _logger.warning("the MLflow run %s will be created later: %s", name, redact(str(error).partition("\n")[0]))
        log = RunLog(self.client, folder, name, spool)
        if params:
            log.params(params)
        return log

    def deliver(self, folder: Path) -> int:
        """Send what an outage left in ``folder`` and return how many records that were. No run may be writing there.

        Raises:
            CorruptError: the folder holds no run.
            Exception: MLflow is still out of reach; the unsent records stay.
        """
        self._name_experiment(folder)
        return resend(folder, self.client)

    def _name_experiment(self, folder: Path) -> None:
        """Put the experiment's id into identities, the parent's too, that were made while nobody could be asked for it."""
        identity = load_identity(folder)
        if identity is None or self.experiment_id == PENDING:
            return
        if identity.experiment_id == PENDING:
            save_identity(folder, replace(identity, experiment_id=self.experiment_id))
        if identity.parent_folder is not None:
            self._name_experiment(Path(identity.parent_folder))

    def _is_lost(self, identity: RunIdentity) -> bool:
        from mlflow.exceptions import MlflowException

        if identity.run_id is None:
            return False
        try:
            return bool(self.client.get_run(identity.run_id).info.lifecycle_stage != "active")
        except MlflowException as error:
            return bool(error.error_code == "RESOURCE_DOES_NOT_EXIST")
        except Exception:  # noqa: BLE001 (out of reach: nothing is known, so nothing is lost)
            return False


class RunLog:
    """Records one run. Every method returns at once; none raises because MLflow is out of reach.

    As a context manager it finishes the run: FINISHED, KILLED on an interrupt, else FAILED.
    """

    def __init__(self, client: MlflowClient, folder: Path, name: str, spool: Spool) -> None:
        self.folder, self.name = folder, name
        self._client, self._spool = client, spool
        self._sender = Sender(spool, Delivery(folder, client))
        self._sender.wake()
        self._system = SystemMetrics(self._append, spool.last_tokens)
        self._finished = False
        self._guard = threading.Lock()
        self._warned: set[str] = set()

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None while MLflow has been out of reach since the start."""
        identity = load_identity(self.folder)
        return identity.run_id if identity is not None else None

    def log(self, record: Mapping[str, Any]) -> bool:
        """Metrics at a count of tokens: ``{"tokens": int, "metrics": {name: float}}``, and ``step``, ``time_ms``.

        Repeating a (tokens, name) that is already recorded does nothing, so a resumed run may replay its last steps.

        Returns:
            Whether anything of it was new.
        """
        metrics = {name: float(value) for name, value in record["metrics"].items() if self._is_name(name)}
        counts = {name: int(record[name]) for name in ("step", "tokens", "time_ms") if name in record}
        return self._append({"time_ms": _now_ms(), **counts, "metrics": metrics})

    def params(self, values: Mapping[str, Any]) -> None:
        """Parameters; nested mappings become dotted names. A value that differs from the recorded one becomes a tag."""
        flat = {_NOT_IN_NAME.sub("_", name)[:_MAX_NAME]: value[:_MAX_PARAM] for name, value in flatten(values)}
        self._append({"params": flat})

    def tags(self, values: Mapping[str, str]) -> None:
        """Tags; a later value replaces an earlier one."""
        self._append({"tags": _tag_values(values)})

    def dataset(self, name: str, digest: str, source: str, context: str, profile: Mapping[str, Any]) -> None:
        """One data input, shown in MLflow under *Datasets used*.

        Args:
            name: of the source.
            digest: of its content, cut to MLflow's 36 characters.
            source: path or URL; passwords are removed.
            context: its role: ``domain``, ``general``, ``reference``.
            profile: counts and the like, shown as JSON.
        """
        entry = {"name": name[:500], "digest": digest[:_MAX_DIGEST], "source": redact(source), "context": context[:500]}
        self._append({"dataset": {**entry, "profile": dict(profile)}})

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload a file, or all of a folder, into the run's artifact folder ``folder``; it must stay until sent."""
        self._append({"artifact": {"path": str(path.resolve()), "folder": folder}})

    def start_system_metrics(self, interval_s: float = 10.0) -> None:
        """Sample CPU, memory, disk, network and GPU until the run finishes; shown in MLflow's *System metrics*."""
        self._system.start(interval_s)

    def node_sample(self, node: int, sample: Mapping[str, float]) -> None:
        """A sample of ``tracking.system.SystemMonitor`` that was taken on another node, by the node's number in the run."""
        self._system.add(node, sample)

    def finish(self, status: Status = "FINISHED", timeout_s: float | None = None) -> int:
        """End the run and send what is left for up to ``timeout_s`` seconds (30; 1 where nobody has answered so far).

        Returns:
            Records still unsent; they stay in the folder for :func:`resend` or the next :meth:`Tracker.run`.
        """
        self._system.stop()
        if timeout_s is None:
            away = isinstance(self._client, LateClient) and not self._client.answered
            timeout_s = _END_AWAY_S if away else _END_S
        if not self._finished:
            self._append({"status": status, "time_ms": _now_ms()})
            with self._guard:
                self._finished = True
            left = self._sender.close(timeout_s)
            if left:
                _logger.warning("%d records of run %s are not in MLflow yet; kept in %s", left, self.name, self.folder)
            self._spool.close()
        return self._spool.remaining

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish("FINISHED")
        else:
            self.finish("KILLED" if issubclass(kind, (KeyboardInterrupt, SystemExit)) else "FAILED")

    def _append(self, record: Mapping[str, Any]) -> bool:
        with self._guard:
            if self._finished:
                self._warn("finished", f"run {self.name} is finished; a late record is dropped")
                return False
            try:
                new = self._spool.append(record)
            except OSError as error:
                self._warn("disk", f"tracking records are lost, the disk refuses: {error}")
                return True  # new, and lost
        if new:
            self._sender.wake()
        return new

    def _is_name(self, name: str) -> bool:
        if len(name) <= _MAX_NAME and _METRIC_NAME.fullmatch(name):
            return True
        self._warn(name, f"the metric name {name[:80]!r} is not one MLflow takes; it is dropped")
        return False

    def _warn(self, key: str, text: str) -> None:
        if key not in self._warned:
            self._warned.add(key)
            _logger.warning("%s", text)


def resend(folder: Path, client: MlflowClient) -> int:
    """Send what an outage left in ``folder`` and return how many records that were. No run may be writing there.

    Raises:
        CorruptError: the folder holds no run.
        Exception: MLflow is still out of reach; the unsent records stay.
    """
    ensure_run(folder, client)
    spool = Spool(folder)
    try:
        waiting = spool.remaining
        drain(spool, Delivery(folder, client))
    finally:
        spool.close()
    return waiting


def kept_records(folder: Path) -> int:
    """How many records of ``folder`` are not in MLflow yet. No run may be writing there.

    Raises:
        OSError: the folder cannot be written.
    """
    spool = Spool(folder)
    try:
        return spool.remaining
    finally:
        spool.close()


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested mappings as (dotted name, text); texts stay as they are, everything else is written as JSON."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        elif isinstance(value, (str, Path)):
            yield f"{prefix}{name}", redact(str(value))
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"{prefix}{name}", str(value)
        else:
            yield f"{prefix}{name}", redact(json.dumps(value, ensure_ascii=False, sort_keys=True, default=str))


def _tag_values(tags: Mapping[str, str]) -> dict[str, str]:
    return {_NOT_IN_NAME.sub("_", name)[:_MAX_NAME]: redact(str(value))[:_MAX_TAG] for name, value in tags.items()}


def _now_ms() -> int:
    return int(time.time() * 1000)
