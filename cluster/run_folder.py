"""A run's folder, found by name, and what the run needs that lies elsewhere: its store, its base, its MLflow."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cluster.changes import read_changes
from cluster.workflow import JOB
from ground.errors import CorruptError, UserError
from pipelines.store import MARKER, TokenStore
from pipelines.store_cache import StoreCache
from pipelines.store_remote import open_store
from training.job import Job

WORK = Path(".steady")
_CACHE, _CACHE_GB = Path.home() / ".cache" / "steady", 10.0
"""Where the tokenizer and the manifest of a store at a URL are kept for `steady export` and `evaluate`."""
_LEVELS = 4
"""How far above a run's folder its store and its MLflow file are looked for; by default they are two above."""


def find_run(name: str) -> Path:
    """The folder of the run that ``name`` means: a folder, or the name of a run below ``.steady``.

    Raises:
        UserError: it means none, or several.
    """
    path = Path(name).expanduser()
    if (path / JOB).is_file():
        return path
    plain = "/" not in name and not any(c in name for c in "*?[")
    found = [run for run in sorted(WORK.glob(f"*/runs/{name}")) if (run / JOB).is_file()] if plain else []
    if len(found) > 1:
        choices = ", ".join(str(run) for run in found)
        raise UserError("RUN", f"{len(found)} runs are called {name!r}", f"give the folder of one: {choices}")
    if not found:
        there = f"{path} is no run's folder (no {JOB})" if path.is_dir() else f"there is no run {name!r} below {WORK}"
        raise UserError("RUN", there, "give the folder of a run (<work>/runs/<name>) or the name of one")
    return found[0]


def read_job(folder: Path) -> tuple[Job, TokenStore]:
    """The job of a run and its store, wherever they are now.

    Raises:
        UserError: the store is not where it was, nor beside the run.
        CorruptError: the run's folder is damaged.
    """
    path = folder / JOB
    try:
        kept: dict[str, Any] = json.loads(path.read_text())
        store = _find_store(folder, str(kept["store_digest"]))
        cached = {} if store.cache is None else {"cache_folder": str(store.cache.folder), "cache_gb": _CACHE_GB}
        places = {"folder": str(folder.resolve()), "store": store.origin or str(store.path)}
        job = Job.model_validate({**kept, **places, **cached})
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise CorruptError(str(path), f"is damaged ({type(error).__name__})", "give another run") from None
    base = _recorded(folder).get("model.base")
    if job.base_digest and base:  # the job keeps the digest in the place of a folder, which may be elsewhere
        base = str(Path(base).resolve())
        job = job.model_copy(update={"model": job.model.model_copy(update={"base": base})})
    # The checkpoints of a run whose user allowed a change may bear the digests of before.
    return job.model_copy(update={"allowed_digests": tuple(change.digest for change in read_changes(folder))}), store


def tracking_uri(folder: Path) -> str:
    """The MLflow store that a run is recorded in: ``MLFLOW_TRACKING_URI``, else the file in its work folder.

    Raises:
        UserError: there is neither.
    """
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return uri
    for parent in _above(folder):
        if (parent / "mlflow.db").is_file():
            return f"sqlite:///{parent / 'mlflow.db'}"
    mend = "set MLFLOW_TRACKING_URI to the recipe's tracking.uri"
    raise UserError("--register", f"no MLflow store is known for {folder}", mend)


def _find_store(folder: Path, digest: str) -> TokenStore:
    """The store with this digest: where the run recorded it, or else beside the run."""
    recorded = _recorded(folder).get("store")
    if recorded and "://" in recorded:
        return _far_store(recorded, digest)
    places = [Path(recorded)] if recorded else []
    places += [parent / "store" for parent in _above(folder)]
    for place in places:
        if (place / MARKER).is_file() and (place / MARKER).read_text().startswith(digest):
            return TokenStore.open(place)
    where = places[0] if recorded else folder.resolve().parents[min(1, len(folder.resolve().parents) - 1)] / "store"
    raise UserError(
        "RUN",
        f"its token store {digest} is not there",
        f"put it back as {where}: the tokenizer and the lineage are in it",
    )


def _far_store(url: str, digest: str) -> TokenStore:
    """A store in an object store; of its pieces only those that are read are fetched."""
    store = open_store(url, StoreCache(_CACHE, int(_CACHE_GB * 1e9)))
    if store.digest != digest:
        raise UserError("RUN", f"its token store {digest} is not at {url} any more", "put it back there")
    return store


def _recorded(folder: Path) -> dict[str, str]:
    """The places that a run recorded for MLflow: ``store`` and ``model.base``, as far as they are in its spool."""
    places: dict[str, str] = {}
    path = folder / "spool.jsonl"
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        if b'"dataset"' not in line and b'"params"' not in line:
            continue
        try:
            record: dict[str, Any] = json.loads(line)
        except ValueError:  # the last line of a run that is being written or was killed
            continue
        if "dataset" in record:
            places["store"] = str(record["dataset"]["source"]).rpartition("/")[0]
        if base := record.get("params", {}).get("model.base"):
            places["model.base"] = base
    return places


def _above(folder: Path) -> Iterator[Path]:
    yield from folder.resolve().parents[:_LEVELS]
