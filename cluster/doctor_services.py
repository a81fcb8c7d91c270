"""What `steady doctor` looks at beyond this machine: the Ray cluster and its authentication, MLflow, object stores."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from cluster.doctor_lines import Finding, installed
from ground.errors import UserError
from tracking.redact import redact

_PORTS = {"ray": 10001, "": 6379, "http": 8265, "https": 8265}
_DRIVERS = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
    "hf": "huggingface_hub",
}
_LOCAL = {"file", "memory", "local"}
_CONNECT_S = 3.0


def ray(address: str | None) -> tuple[dict[str, float] | None, list[Finding]]:
    """Resources of the cluster at ``address`` if it answers, and the lines about it and how it knows its users."""
    if address is None:
        found = "no address and no RAY_ADDRESS: commands start Ray on this machine by themselves"
        return None, [Finding("ray", "ok", found)]
    authentication = _ray_authentication(address)
    if (silent := _unreachable(address)) is not None:
        found = f"nobody answers at {address} ({silent})"
        mend = "start the cluster (ray start --head), mend the address, or unset RAY_ADDRESS"
        return None, [Finding("ray", "broken", found, mend), authentication]
    if authentication.level == "broken":
        found = f"{address} answers; not asked further without a token"
        return None, [Finding("ray", "note", found, "mend the next line first"), authentication]
    from cluster.session import resources_at

    try:
        total = resources_at(address)
    except UserError as error:
        return None, [Finding("ray", "broken", error.problem, "start the cluster or unset RAY_ADDRESS"), authentication]
    found = f"{address}: {total.get('CPU', 0):g} CPUs, {total.get('GPU', 0):g} GPUs"
    return total, [Finding("ray", "ok", found), authentication]


def _unreachable(address: str) -> str | None:
    """Why no connection opens within seconds, where Ray itself would try for minutes; None when one does."""
    if address in ("auto", "local"):
        return None
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        port = parts.port or _PORTS.get(parts.scheme, 6379)
    except ValueError:
        return "not a valid address"
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_CONNECT_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _ray_authentication(address: str) -> Finding:
    """Whether a token is asked for, and there."""
    mode = os.environ.get("RAY_AUTH_MODE", "")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    token = bool(os.environ.get("RAY_AUTH_TOKEN")) or path.is_file()
    if mode == "token" and not token:
        mend = "copy the head node's ~/.ray/auth_token here (ray get-auth-token), or set RAY_AUTH_TOKEN"
        return Finding("ray auth", "broken", f"RAY_AUTH_MODE=token and there is no token ({path})", mend)
    if mode == "token":
        if path.is_file() and path.stat().st_mode & 0o077:
            return Finding("ray auth", "note", f"others of this machine may read {path}", f"chmod 600 {path}")
        return Finding("ray auth", "ok", "by token")
    if token:
        found = "there is a token and RAY_AUTH_MODE is not set: jobs would be refused (missing authentication token)"
        return Finding("ray auth", "note", found, "export RAY_AUTH_MODE=token")
    found = f"whoever reaches {address} may run code there"
    mend = "`ray get-auth-token --generate`, and RAY_AUTH_MODE=token wherever it starts; or keep it on loopback"
    return Finding("ray auth", "note", found, mend)


def mlflow(uri: str, experiment: str | None) -> list[Finding]:
    """The tracking store, and where the experiment's artifacts go."""
    from tracking.connect import connect, sqlite_path

    file = sqlite_path(uri)
    if file is not None and not file.is_file():
        if not os.access(_existing(file.parent), os.W_OK):
            return [Finding("mlflow", "broken", f"{file} cannot be made", "name a writable place in tracking.uri")]
        return [Finding("mlflow", "ok", f"{file} will be made by the first run; no server needed")]
    try:
        client = connect(uri)
        found = client.get_experiment_by_name(experiment) if experiment else None
    except UserError as error:
        return [Finding("mlflow", "broken", error.problem, error.mend)]
    except Exception as error:  # noqa: BLE001 (it answered once: MLflow passes on errors of requests and SQLAlchemy as they are)
        return [Finding("mlflow", "broken", redact(str(error).partition("\n")[0][:200]), "look at the server's log")]
    if found is not None and found.lifecycle_stage != "active":
        mend = "restore it in the MLflow UI, or choose another tracking.experiment"
        return [Finding("mlflow", "broken", f"the experiment {experiment!r} was deleted", mend)]
    lines = [Finding("mlflow", "ok", f"{redact(uri)} answers")]
    return [*lines, _artifacts(str(found.artifact_location), uri)] if found is not None else lines


def _artifacts(place: str, uri: str) -> Finding:
    scheme, server = urlsplit(place).scheme, uri.startswith(("http://", "https://"))
    if scheme == "mlflow-artifacts":
        mend = "set tracking.uri to the server's http address, or choose another tracking.experiment"
        found = "go through the MLflow server" if server else f"are kept by a server, and tracking.uri is {redact(uri)}"
        return Finding("artifacts", "ok" if server else "broken", found, mend)
    if scheme in ("", "file"):
        mend = "choose another tracking.experiment: this one began without a server, and its folder is on one machine"
        return Finding("artifacts", "note" if server else "ok", f"in the folder {place}", mend)
    if scheme == "s3" and not installed("boto3"):
        return Finding("artifacts", "broken", f"go to {place}, which needs boto3", "pip install boto3")
    return Finding("artifacts", "ok", f"go to {redact(place)}, with this machine's credentials")


def object_stores(urls: Iterable[tuple[str, str]]) -> list[Finding]:
    """Whether each place that a recipe names by URL can be listed, once a bucket.

    Args:
        urls: (field of the recipe, URL).
    """
    places: dict[str, str] = {}
    for field, url in urls:
        parts = urlsplit(url)
        if parts.scheme not in _LOCAL:
            places.setdefault(f"{parts.scheme}://{parts.netloc}", field)
    return [_bucket(place, field) for place, field in places.items()]


def _bucket(place: str, field: str) -> Finding:
    import fsspec

    what = "object store"
    driver = _DRIVERS.get(urlsplit(place).scheme)
    if driver is not None and not installed(driver):
        return Finding(what, "broken", f"{field}: {redact(place)} needs the package {driver}", f"pip install {driver}")
    try:
        files, path = fsspec.core.url_to_fs(place)
        if urlsplit(place).scheme in ("http", "https"):
            return Finding(what, "ok", f"{redact(place)} is read as single files")
        files.ls(path, detail=False)
    except Exception as error:  # noqa: BLE001 (every driver raises its own kinds; all of them mean that it cannot be used)
        reason = redact(" ".join(str(error).split())[:200]) or type(error).__name__
        mend = "check the name, the credentials (AWS_ACCESS_KEY_ID, ...) and the endpoint (AWS_ENDPOINT_URL)"
        return Finding(what, "broken", f"{field}: {redact(place)} refuses ({reason})", mend)
    return Finding(what, "ok", f"{redact(place)} answers")


def _existing(folder: Path) -> Path:
    """The nearest folder above that is there."""
    while not folder.is_dir():
        folder = folder.parent
    return folder
