"""All files of a source, whatever its paths mean."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from ground.files import digest_bytes
from pipelines.paths import expand_paths
from pipelines.readers.config import SourceReading
from pipelines.readers.huggingface import hub_dataset_files, is_saved_dataset, saved_dataset_files


def expand_source(source: SourceReading, field: str) -> list[str]:
    """The files of a source, sorted, each once; with ``max_files`` those whose names have the smallest hashes.

    Args:
        field: recipe field of the source (``sources.<name>``), for errors.

    Raises:
        UserError: a path matches nothing or cannot be read.
    """
    files: set[str] = set()
    for path in source.paths:
        expanded = path if "://" in path else str(Path(path).expanduser())
        if source.format in ("auto", "huggingface") and is_saved_dataset(expanded):
            files.update(saved_dataset_files(expanded, source, field))
        elif source.format == "huggingface" and not ("://" in expanded or Path(expanded).exists()):
            files.update(hub_dataset_files(path, source, field))
        elif source.format == "huggingface":
            files.update(saved_dataset_files(expanded, source, field))
        else:
            files.update(expand_paths([path], f"{field}.paths"))
    chosen = sorted(files)
    if source.max_files is not None:
        chosen = sorted(chosen, key=lambda file: (digest_bytes(PurePosixPath(file).name), file))[: source.max_files]
    return sorted(chosen)
