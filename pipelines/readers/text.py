"""Plain text: one document a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from pipelines.readers.rejects import Rejects
from pipelines.readers.splits import Split
from pipelines.readers.values import LONGEST_RECORD
from pipelines.streams import open_stream


def text_rows(split: Split, rejects: Rejects, field: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The file as one row, its name the id; too long a file is rejected, an empty one has no row.

    Raises:
        UserError: the file cannot be read to its end.
    """
    with open_stream(split.file, split.compression, field) as stream:
        content = stream.read(LONGEST_RECORD + 1)
        if len(content) > LONGEST_RECORD:
            rejects.add("too_long", split.file, 0, content)
        elif content:
            yield 0, {"text": content.decode("utf-8-sig", "replace"), "id": PurePosixPath(split.file).name}
