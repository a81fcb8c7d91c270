"""Judging, before an upload, whether a job could run: what would be uploaded, and what the nodes of the cluster told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from platform import python_version
from typing import Any

from cluster.doctor_lines import Finding, installed
from cluster.job_command import JobCommand
from tracking.redact import redact

MOST_UPLOADED = 100 << 20
"""Bytes that Ray's dashboard takes (ray#55877), though the cluster itself would take more."""
EXCLUDES = (
    # What no job needs. Ray itself leaves out .git, .venv, venv and __pycache__, and obeys .gitignore and .rayignore.
    *(".git", ".venv", "venv", "__pycache__", ".steady", "mlruns", "node_modules", "*.egg-info"),
    *(".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".ipynb_checkpoints", ".tox", ".nox"),
    # What nobody else may see.
    *(".env", ".env.*", ".netrc", ".ssh", ".aws", ".azure", ".kube", "auth_token", "*.pem", "*.key", "id_rsa*"),
)
PACKAGES = ("ray", "torch", "deepspeed", "transformers", "mlflow", "pyarrow", "kenlm-ex", "pydantic", "typer")
_ZIP_BYTES = 76  # Ray zips without compression: headers of a file beside twice its name
_ZIP_END_BYTES = 22
_LARGEST = 3
_SMALLEST_FREE_BYTES = 5 << 30
_OLDEST_PYTHON = (3, 11)


def upload_bytes(listing: Mapping[str, int]) -> int:
    """Bytes of the archive that Ray makes of the files."""
    return sum(size + _ZIP_BYTES + 2 * len(name.encode()) for name, size in listing.items()) + _ZIP_END_BYTES


def judge_upload(listing: Mapping[str, int], command: JobCommand, folder: Path) -> list[Finding]:
    """Whether the upload is small enough and holds what the recipe names."""
    total = upload_bytes(listing)
    largest = sorted(listing, key=lambda name: -listing[name])[:_LARGEST]
    named = ", ".join(f"{name} {_megabytes(listing[name])}" for name in largest)
    found = f"{len(listing)} files, {_megabytes(total)} of the {_megabytes(MOST_UPLOADED)} that Ray takes"
    mend = f"add lines to {folder / '.rayignore'} (as .gitignore), or move data to storage that the nodes share"
    findings = [Finding("upload", "ok", found)]
    if total > MOST_UPLOADED:
        findings = [Finding("upload", "broken", f"{found}; the largest: {named}", mend)]
    wanted = [command.recipe_path, *_relative_inputs(command, folder)]
    for path in wanted:
        if path not in listing and not any(name.startswith(f"{path}/") for name in listing):
            problem = f"{path} is not uploaded: .gitignore, .rayignore or a default leaves it out"
            findings.append(Finding("upload", "broken", problem, "mend that file, or name a path that the nodes have"))
    return findings


def judge_token(url: str, *, asks: bool) -> Finding:
    """Whether the cluster asks who comes.

    Args:
        asks: it refuses who brings no credentials.
    """
    if asks:
        return Finding("token", "ok", "the cluster asks for it")
    mend = "`ray get-auth-token --generate`, then RAY_AUTH_MODE=token wherever `ray start` runs"
    return Finding(
        "token", "note", f"the cluster asks for none: whoever reaches {redact(url)} may run code there", mend
    )


def questions(command: JobCommand, mark: str) -> dict[str, Any]:
    """What to ask every node (see :func:`cluster.probe.look`)."""
    recipe = command.recipe
    uri = recipe.tracking.uri
    paths = [path for path in _strings(_read_by(command)) if path.startswith("/") and not set(path) & set("*?[")]
    if command.name in ("train", "tune", "report") and "://" not in (recipe.curation.store or ""):
        paths.append(str(recipe.store_folder / "COMPLETE"))
    return {
        "packages": list(PACKAGES),
        "work": str(command.work) if command.work else None,
        "mark": mark,
        "tracking": uri if uri and "://" in uri and not uri.startswith("sqlite") else None,
        "paths": sorted(set(paths)),
    }


def judge_nodes(look: Mapping[str, Any], command: JobCommand, asked: Mapping[str, Any]) -> list[Finding]:
    """Findings about what :func:`cluster.submit.look_at_nodes` returned."""
    nodes = look["nodes"]
    resources = look["resources"]
    have = f"{len(nodes)} node(s), {resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs"
    findings = [Finding("cluster", "ok", have)]
    if look["silent"]:
        mend = "see the cluster's dashboard; a node that is starting may need a minute"
        findings = [Finding("cluster", "broken", f"{have}; {_some(look['silent'])} did not answer", mend)]
    findings += [*_judge_versions(nodes), _judge_workers(command, resources)]
    if command.work:
        findings.append(_judge_storage(look, command))
    findings += _judge_paths(nodes, command)
    if asked["tracking"]:
        findings.append(_judge_tracking(nodes, asked["tracking"]))
    return findings


def _judge_versions(nodes: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    here = {"python": python_version()} | {name: installed(name) for name in PACKAGES}
    there: dict[str, dict[str | None, list[str]]] = {}
    for node in nodes:
        for name, found in ({"python": node["python"]} | node["packages"]).items():
            there.setdefault(name, {}).setdefault(found, []).append(node["node"])
    image = "give all nodes the same image or environment (pip install -c constraints.txt -e .)"
    broken = []
    for name, by_version in there.items():
        if None in by_version:
            broken.append(f"{name} is missing on {_some(by_version[None])}")
        elif len(by_version) > 1:
            broken.append(f"{name} is " + " but ".join(f"{v} on {_some(on)}" for v, on in sorted(by_version.items())))
    oldest = [v for v in there.get("python", {}) if v and tuple(map(int, v.split(".")[:2])) < _OLDEST_PYTHON]
    if oldest:
        broken.append(f"python is {oldest[0]}, older than {'.'.join(map(str, _OLDEST_PYTHON))}")
    if broken:
        yield Finding("versions", "broken", "; ".join(broken), image)
        return
    one = {name: next(iter(by_version)) for name, by_version in there.items()}
    other = [f"{name} {found} (here {here[name]})" for name, found in one.items() if found != here[name]]
    found = f"python {one.get('python')}, ray {one.get('ray')}, torch {one.get('torch')}"
    if other:
        yield Finding("versions", "note", f"other than here: {', '.join(other)}")
    else:
        yield Finding("versions", "ok", f"{found}: as here")


def _judge_workers(command: JobCommand, resources: Mapping[str, float]) -> Finding:
    runs = [variant.training for variant in command.recipe.variants().values()]
    if command.name not in ("train", "tune"):
        return Finding("workers", "ok", f"`{command.name}` asks for no GPU")
    for resource in ("GPU", "CPU"):
        asked = max((run.fewest_workers for run in runs if resource == "CPU" or run.accelerator == "gpu"), default=0)
        have = resources.get(resource, 0)
        if asked > have:
            mend = f"use training.workers={int(have)}, or a larger cluster" if have else "add nodes that have some"
            return Finding("workers", "broken", f"{asked} {resource}s are asked for, the cluster has {have:g}", mend)
    workers, gpus = max(run.workers for run in runs), resources.get("GPU", 0)
    kind = "GPU" if any(run.accelerator == "gpu" for run in runs) or gpus >= workers else "CPU"
    return Finding("workers", "ok", f"{workers} asked for, one {kind} each")


def _judge_storage(look: Mapping[str, Any], command: JobCommand) -> Finding:
    work = command.work
    for node in look["nodes"]:
        if error := node["storage"]["error"]:
            mend = "mount it there, writable for the user that Ray runs as, or name another folder with work="
            return Finding("work", "broken", f"{work} cannot be written on {node['node']} ({error})", mend)
    for node, others in look["unseen"].items():
        mend = "use a folder on storage that all nodes mount (NFS, Lustre, FSx, Filestore)"
        return Finding("work", "broken", f"{work} on {node} does not show what {_some(others)} wrote there", mend)
    free = min((node["storage"]["free"] for node in look["nodes"]), default=0)
    found = f"{work} is shared and writable on {len(look['nodes'])} node(s), {free / 1e9:.0f} GB free"
    if free < _SMALLEST_FREE_BYTES:
        return Finding("work", "note", found, "free some space: stores and checkpoints need it")
    return Finding("work", "ok", found)


def _judge_paths(nodes: Sequence[Mapping[str, Any]], command: JobCommand) -> Iterator[Finding]:
    missing: dict[str, list[str]] = {}
    for node in nodes:
        for path in node["missing"]:
            missing.setdefault(path, []).append(node["node"])
    store = str(command.recipe.store_folder / "COMPLETE")
    for path, on in missing.items():
        if path == store:
            mend = f"submit `curate {command.recipe_path}` first"
            yield Finding("store", "broken", f"there is no whole token store in {command.recipe.store_folder}", mend)
        else:
            yield Finding(
                "files", "broken", f"{path} is not there on {_some(on)}", "put it on storage that all nodes mount"
            )


def _judge_tracking(nodes: Sequence[Mapping[str, Any]], uri: str) -> Finding:
    silent = [node for node in nodes if node["tracking"]]
    if not silent:
        return Finding("MLflow", "ok", f"{uri} answers on {len(nodes)} node(s)")
    found = f"{uri} does not answer on {_some([node['node'] for node in silent])} ({silent[0]['tracking']})"
    mend = "use an address that the nodes reach (not localhost); the run itself would go on, and `steady sync` send it later"
    return Finding("MLflow", "broken", found, mend)


def _relative_inputs(command: JobCommand, folder: Path) -> Iterator[str]:
    """What the recipe names of the working directory: files, folders, and what patterns match there."""
    for text in sorted(set(_strings(_read_by(command)))):
        if text.startswith("/") or "://" in text or ".." in Path(text).parts or not text.strip("./"):
            continue
        if set(text) & set("*?["):
            yield from sorted(path.relative_to(folder).as_posix() for path in folder.glob(text) if path.is_file())
        elif len(text) < 256 and "\n" not in text and (folder / text).exists():
            yield Path(text).as_posix()


def _read_by(command: JobCommand) -> dict[str, Any]:
    """The part of the recipe whose files the command reads."""
    whole = command.recipe.model_dump(
        mode="json", exclude={"name", "work", "description", "tracking", "runs", "cluster"}
    )
    whole["curation"].pop("store", None)
    if command.name != "curate":
        whole = {name: whole[name] for name in ("model", "evaluation")}
    return whole


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _strings(part)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:2])
    return shown if len(names) <= 2 else f"{shown} and {len(names) - 2} more"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
