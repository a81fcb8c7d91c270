"""What runs on single nodes of a cluster: the look before a job is submitted, and the end of one that does not listen.

This file travels to the nodes by itself (``submit.py``): it uses nothing of Steady.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MARK = ".steady-preflight-"
_ANSWER_SECONDS = 8.0
_SEEN_SECONDS = 15.0  # NFS clients may keep an old listing for a while
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def look(asked: dict[str, Any], node: str) -> dict[str, Any]:
    """Versions, storage, MLflow and files as this node sees them; writes a mark of its own into the work folder.

    Args:
        asked: ``packages`` (names), ``work`` (folder or None), ``mark`` (of this preflight), ``tracking`` (URI or None) and
            ``paths`` (absolute ones that the recipe names).
        node: its id, part of its mark's name.
    """
    return {
        "node": node,
        "host": socket.gethostname(),
        "executable": sys.executable,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in asked["packages"]},
        "storage": _write_mark(asked["work"], asked["mark"], node) if asked["work"] else None,
        "tracking": _tracking(asked["tracking"]) if asked["tracking"] else "",
        "missing": [path for path in asked["paths"] if not Path(path).exists()],
    }


def compare(asked: dict[str, Any], nodes: list[str]) -> list[str]:
    """Those of ``nodes`` whose marks this node cannot see in the work folder."""
    end = time.monotonic() + _SEEN_SECONDS
    while True:
        names = _names(asked["work"])
        unseen = [node for node in nodes if _mark(asked["work"], asked["mark"], node).name not in names]
        if not unseen or time.monotonic() > end:
            return unseen
        time.sleep(0.5)


def clean(asked: dict[str, Any], node: str, made: list[str]) -> None:
    """Take this node's mark away, and the folders that were made for it, if nothing else is in them by now."""
    with contextlib.suppress(OSError):
        _mark(asked["work"], asked["mark"], node).unlink()
    for folder in made:
        with contextlib.suppress(OSError):
            Path(folder).rmdir()


def end_driver(job: str) -> None:
    """SIGKILL to the driver of a job on this node and to what it started. (Its shell may be gone already, and to end the actor
    that watches it would leave the driver running.)"""
    import json

    import psutil

    for process in psutil.process_iter():
        try:
            told = json.loads(process.environ().get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
        except (psutil.Error, ValueError):
            continue
        if told.get("metadata", {}).get("job_submission_id") == job:
            process.kill()


def _write_mark(work: str, mark: str, node: str) -> dict[str, Any]:
    folder = Path(work)
    made = [str(path) for path in (folder, *folder.parents) if not path.is_dir()]  # the innermost first
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(_mark(work, mark, node), "w") as file:
            file.write(node)
            file.flush()
            os.fsync(file.fileno())
        return {"made": made, "error": "", "free": shutil.disk_usage(work).free}
    except OSError as error:
        return {"made": made, "error": error.strerror or str(error), "free": 0}


def _mark(work: str, mark: str, node: str) -> Path:
    return Path(work) / (MARK + mark + "-" + node)


def _names(folder: str) -> set[str]:
    try:
        return {path.name for path in Path(folder).iterdir()}
    except OSError:
        return set()


def _tracking(uri: str) -> str:
    """Why nobody answers at an MLflow server or database; empty: somebody does."""
    parts = urlsplit(uri)
    kind = parts.scheme.partition("+")[0]
    try:
        if kind in ("http", "https"):
            urllib.request.urlopen(uri.rstrip("/") + "/health", timeout=_ANSWER_SECONDS).close()
        elif kind in _PORTS:
            address = (parts.hostname or "", parts.port or _PORTS[kind])
            socket.create_connection(address, timeout=_ANSWER_SECONDS).close()
    except urllib.error.HTTPError as error:  # it answers; whether it lets us in is for the run's credentials
        return f"it answers with {error.code}" if error.code >= 500 else ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return str(getattr(reason, "strerror", None) or reason or type(error).__name__)
    return ""


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None
