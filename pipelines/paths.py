"""Which files a source means: globs, folders and URLs to sorted files, and the format an ending stands for."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NoReturn

import fsspec

from ground.errors import UserError

Format = Literal["auto", "jsonl", "parquet", "arrow", "text", "warc", "huggingface"]
"""What a recipe may say of a source's files."""
Kind = Literal["jsonl", "json", "parquet", "arrow", "text", "warc"]
"""``json``: JSON lines, or one array, which a file tells by its first character."""
Compression = Literal["gz", "zst"]

_KINDS: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".txt": "text",
    ".md": "text",
    ".warc": "warc",
    ".wet": "warc",
}
_COMPRESSIONS: dict[str, Compression] = {".gz": "gz", ".zst": "zst"}
_BESIDE_DATA = {"state.json", "dataset_info.json", "dataset_dict.json"}  # what `datasets` writes beside its Arrow files
URL_ERRORS = (OSError, ValueError, ImportError)
"""What fsspec raises: no file or access (OSError), no such protocol (ValueError), a missing package (ImportError)."""


def expand_paths(paths: Sequence[str], field: str) -> list[str]:
    """Every file that ``paths`` mean, sorted, each once.

    A folder stands for all files below it with a known ending, hidden ones and what `datasets` writes beside its
    Arrow files left out; a glob (``*``, ``?``, ``[]``, ``**``) for the files that match; a path that exists is taken as it
    is, whatever signs it contains.

    Args:
        field: recipe field that holds the paths (``sources.<name>.paths``), for errors.

    Raises:
        UserError: a file is missing, a glob or folder matches nothing, a folder or URL cannot be read, or the name of a file
            is no Unicode.
    """
    files: set[str] = set()
    for path in paths:
        found = _expand_url(path, field) if "://" in path else _expand_local(path, field)
        if not found:
            raise UserError(
                field, f"{path!r} matches no file", f"check it; known endings: {', '.join(_KINDS)} (+ .gz, .zst)"
            )
        files.update(found)
    for file in files:
        try:
            file.encode()
        except UnicodeEncodeError:
            raise UserError(field, f"the name of {file!a} is not UTF-8", "rename the file") from None
    return sorted(files)


def file_format(file: str, chosen: Format, field: str) -> tuple[Kind, Compression | None]:
    """Format of a file and its compression (``gz``, ``zst`` or None).

    Args:
        field: recipe field of the source (``sources.<name>``), for the error.

    Raises:
        UserError: ``chosen`` is ``auto`` and the ending says nothing.
    """
    suffixes = [suffix.lower() for suffix in Path(file).suffixes]
    compression = _COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    ending = suffixes[:-1] if compression else suffixes
    kind = _KINDS.get(ending[-1]) if ending else None
    if chosen == "huggingface":
        return "arrow", compression
    if chosen != "auto" and not (chosen == "jsonl" and kind == "json"):
        return chosen, compression
    if kind is None:
        mend = "set it to jsonl, parquet, arrow, text or warc"
        raise UserError(f"{field}.format", f"the ending of {file} tells no format", mend)
    return kind, compression


def _has_known_ending(name: str) -> bool:
    path = Path(name)
    if path.suffix.lower() in _COMPRESSIONS:
        path = path.with_suffix("")
    return path.suffix.lower() in _KINDS


def _expand_local(pattern: str, field: str) -> list[str]:
    path = Path(pattern).expanduser()
    try:
        if path.is_dir():
            return [str(file) for file in _files_below(path) if _is_corpus(file.relative_to(path).parts)]
        if path.is_file():
            return [str(path)]
        if not any(sign in pattern for sign in "*?["):
            raise UserError(
                field, f"there is no file {pattern!r}", "check the path; relative ones start at the working folder"
            )
        anchor = Path(path.anchor)
        _require_readable(path)
        return [str(file) for file in anchor.glob(str(path.relative_to(anchor))) if file.is_file()]
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path, or "**" glued to a name
        raise UserError(field, f"{pattern!r} cannot be read ({error})", "check the path") from None


def _files_below(folder: Path) -> Iterator[Path]:
    """Like ``Path.rglob``, which passes over folders it may not read without a word."""
    for below, _, names in os.walk(folder, onerror=_refuse):
        yield from (file for name in names if (file := Path(below, name)).is_file())


def _require_readable(pattern: Path) -> None:
    """A glob passes over folders it may not read without a word: look into each of those on its way."""
    fixed = pattern
    while any(sign in str(fixed) for sign in "*?["):
        fixed = fixed.parent
    if "**" in pattern.parts:
        deque(os.walk(fixed, onerror=_refuse), maxlen=0)
        return
    between = pattern.relative_to(fixed).parts[:-1]
    folders = [fixed]
    for length in range(len(between) + 1):
        for folder in folders:
            if folder.is_dir():
                os.scandir(folder).close()
        folders = list(fixed.glob("/".join(between[: length + 1]))) if length < len(between) else []


def _refuse(error: OSError) -> NoReturn:
    raise error


def _expand_url(url: str, field: str) -> list[str]:
    try:
        files, path = fsspec.core.url_to_fs(url)
        if any(sign in path for sign in "*?[") and not files.exists(path):
            names = [name for name in files.glob(path) if files.isfile(name)]
        elif files.isdir(path):
            prefix = path.rstrip("/") + "/"
            names = [name for name in files.find(path) if _is_corpus(name.removeprefix(prefix).split("/"))]
        elif files.exists(path):
            names = [path]
        else:
            raise UserError(field, f"there is no file {url!r}", "check the address and the access rights")
        return [str(files.unstrip_protocol(name)) for name in names]
    except URL_ERRORS as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(
            field, f"{url!r} cannot be read ({reason})", "check the address and the access rights"
        ) from None


def _is_corpus(parts: Sequence[str]) -> bool:
    """Whether a file below a folder belongs to the corpus: a known ending, and nothing hidden on the way to it."""
    hidden = any(part.startswith(".") for part in parts)
    return _has_known_ending(parts[-1]) and not hidden and parts[-1] not in _BESIDE_DATA
