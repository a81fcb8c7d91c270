"""The input files of a recipe: which they are, how large, and the digest of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import fsspec

from ground.errors import UserError
from pipelines.config import SourceConfig
from pipelines.executor import Item, Result
from pipelines.paths import URL_ERRORS
from pipelines.readers import expand_source, file_digest
from pipelines.work import Work, content_key

_FEW_BYTES = 4 << 30  # digested at more than 1 GB/s, while workers take seconds to start


@dataclass(frozen=True)
class Input:
    """One input file."""

    file: str
    """Path or URL."""
    size: int
    """Bytes as stored."""
    digest: str
    """BLAKE3 of its bytes."""


def read_inputs(work: Work, sources: Mapping[str, SourceConfig]) -> dict[str, list[Input]]:
    """The files of every source, sorted, with their digests.

    A digest is kept in the work folder under the file's address, size and time of change, so that a terabyte is read
    once for it.

    Raises:
        UserError: a file is missing or cannot be read.
    """
    files = {name: expand_source(source, f"sources.{name}") for name, source in sources.items()}
    tasks = [
        (content_key(file=file, state=_state(file, f"sources.{name}")), {"file": file, "field": f"sources.{name}"})
        for name, found in files.items()
        for file in found
    ]
    few = sum(_size(item["file"]) for _, item in tasks) < _FEW_BYTES
    digests = iter(work.run("inputs", digest_input, tasks, quiet=True, here=few))
    return {
        name: [
            Input(file, made.result["size"], made.result["digest"]) for file, made in zip(found, digests, strict=False)
        ]
        for name, found in files.items()
    }


def digest_input(item: Item, folder: Path) -> Result:  # noqa: ARG001 - every item gets a folder
    """Digest and size of ``item["file"]``."""
    return {"digest": file_digest(item["file"], item["field"]), "size": _size(item["file"])}


def _state(file: str, field: str) -> str:
    """What changes when the file does."""
    try:
        system, path = fsspec.core.url_to_fs(file)
        return str(system.ukey(path))
    except URL_ERRORS as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{field}.paths", f"cannot read {file} ({reason})", "check the path and the rights") from None


def _size(file: str) -> int:
    system, path = fsspec.core.url_to_fs(file)
    return int(system.size(path) or 0)
