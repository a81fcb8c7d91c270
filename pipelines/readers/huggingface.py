"""Hugging Face datasets as the Arrow files they are: folders of ``save_to_disk``, or names on the hub."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import PurePosixPath
from typing import Any

import fsspec

from ground.errors import UserError
from pipelines.paths import URL_ERRORS
from pipelines.readers.config import SourceReading

_STATE, _INFO, _DICT = "state.json", "dataset_info.json", "dataset_dict.json"
_PROBE_SECONDS = 5  # the hub client itself would try for 23 s


def is_saved_dataset(path: str) -> bool:
    """Whether a path is a folder that ``datasets.save_to_disk`` wrote."""
    try:
        files, root = fsspec.core.url_to_fs(path)
        root = root.rstrip("/")
        return bool(
            files.isfile(f"{root}/{_DICT}") or (files.isfile(f"{root}/{_STATE}") and files.isfile(f"{root}/{_INFO}"))
        )
    except URL_ERRORS:
        return False


def saved_dataset_files(path: str, source: SourceReading, field: str) -> list[str]:
    """The Arrow files of a saved dataset, of its split ``source.huggingface_split`` if it has several.

    Args:
        field: recipe field of the source (``sources.<name>``), for errors.

    Raises:
        UserError: the folder cannot be read, or has no such split.
    """
    try:
        files, root = fsspec.core.url_to_fs(path)
        root = root.rstrip("/")
        if files.isfile(f"{root}/{_DICT}"):
            splits = json.loads(files.cat_file(f"{root}/{_DICT}"))["splits"]
            if source.huggingface_split not in splits:
                problem = f"{path} has no split {source.huggingface_split!r}"
                raise UserError(f"{field}.huggingface_split", problem, f"choose one of {', '.join(map(str, splits))}")
            root = f"{root}/{source.huggingface_split}"
        state = json.loads(files.cat_file(f"{root}/{_STATE}"))
        names = [f"{root}/{PurePosixPath(part['filename']).name}" for part in state["_data_files"]]
        missing = next((name for name in names if not files.isfile(name)), None)
    except (*URL_ERRORS, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        mend = "check that it is a whole dataset written by save_to_disk"
        raise UserError(f"{field}.paths", f"the dataset at {path} cannot be read ({reason})", mend) from None
    if missing is not None:
        raise UserError(f"{field}.paths", f"the dataset at {path} lacks {missing}", "copy it again")
    local = "://" not in path
    return [name if local else str(files.unstrip_protocol(name)) for name in names]


def hub_dataset_files(name: str, source: SourceReading, field: str) -> list[str]:
    """The Arrow files of a dataset on the hub, fetched into the ``datasets`` cache (``HF_HOME``), which all workers must see.

    Never runs code of the dataset. With ``HF_HUB_OFFLINE=1`` only what is in the cache is used.

    Raises:
        UserError: the package is missing, the hub cannot be reached, or it has no such dataset, configuration or split.
    """
    try:
        import datasets
        import huggingface_hub.constants as hub
    except ImportError:
        raise UserError(f"{field}.paths", f"{name!r} needs the package datasets", "pip install datasets") from None
    if not hub.HF_HUB_OFFLINE:
        _require_reachable(hub.ENDPOINT, name, field)
    try:
        dataset: Any = datasets.load_dataset(name, source.huggingface_config, split=source.huggingface_split)
    # RuntimeError: a dataset that is a script
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        mend = "check the name, huggingface_config and huggingface_split; offline it must be in the cache"
        raise UserError(f"{field}.paths", f"dataset {name!r} cannot be loaded ({reason})", mend) from None
    return [str(part["filename"]) for part in dataset.cache_files]


def _require_reachable(endpoint: str, name: str, field: str) -> None:
    try:
        with urllib.request.urlopen(endpoint, timeout=_PROBE_SECONDS):
            return
    except urllib.error.HTTPError:
        return  # it answers
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"{field}.paths",
            f"{name!r} is no folder, and the Hugging Face hub cannot be reached ({reason})",
            "give a folder written by save_to_disk, or set HF_HUB_OFFLINE=1 if the dataset is in the cache",
        ) from None
