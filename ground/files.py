"""Durable files: write to a temporary name, flush, rename. Readers never see a half-written file."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3

_BLOCK_BYTES = 1 << 20


def write_atomic(path: Path, data: bytes | memoryview | str) -> None:
    """Write ``data`` so that ``path`` either keeps its old content or has all of the new one.

    Raises:
        OSError: the file system refused (full, read-only, no permission); ``path`` is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a finished file a second name: without a copy where the file system has hard links.

    Raises:
        OSError: ``target`` is there already, or cannot be written.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def canonical_json(value: Mapping[str, Any]) -> str:
    """The one JSON text of a value: sorted keys, two-space indent, final newline. Equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def digest_bytes(data: bytes | memoryview | str) -> str:
    """BLAKE3 of ``data`` as 32 hex digits (128 bits)."""
    return blake3(data.encode() if isinstance(data, str) else data).hexdigest(16)


def digest_file(path: Path) -> str:
    """BLAKE3 of a file's content as 32 hex digits (128 bits), read in blocks of 1 MiB."""
    hasher = blake3()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            hasher.update(block)
    return hasher.hexdigest(16)
