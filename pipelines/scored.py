"""Whether the domain sources hold what a score of conversations or fields reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from ground.errors import UserError
from pipelines.config import SourceConfig
from pipelines.parts import Part
from pipelines.quality import QualityConfig
from pipelines.quality.conversations import field_value


def check_scored_sources(quality: QualityConfig, sources: Mapping[str, SourceConfig], parts: Sequence[Part]) -> None:
    """Refuse a ranking that would silently rank nothing.

    Args:
        parts: clean documents of all sources.

    Raises:
        UserError: a domain source has no conversations (``ifd``), or does not keep the field or has no number in it
            (``field``).
    """
    for name, source in sources.items():
        if source.role != "domain":
            continue
        if quality.ifd is not None and source.messages_field is None:
            raise UserError(
                f"sources.{name}.messages_field",
                "is absent, and curation.quality.method ifd scores conversations",
                "name the field that holds them, or choose robust",
            )
        if quality.field is not None:
            _check_field(quality.field.name, name, source, [part for part in parts if part.source == name])


def _check_field(field: str, name: str, source: SourceConfig, parts: Sequence[Part]) -> None:
    if field not in source.metadata_fields:
        mend = f"add {field} to them, or choose another method"
        raise UserError(f"sources.{name}.metadata_fields", f"lacks {field!r}, which curation.quality.field names", mend)
    if not any(_holds_number(part.folder, field) for part in parts):
        problem = f"no document of source {name!r} has a number in {field!r}"
        raise UserError("curation.quality.field.name", problem, "check its spelling, or choose another method")


def _holds_number(part: Path, field: str) -> bool:
    with pa.memory_map(str(part / "documents.arrow")) as source:
        reader = pa.ipc.open_file(source)
        return any(
            field_value(text, field) is not None
            for index in range(reader.num_record_batches)
            for text in reader.get_batch(index).column("metadata").to_pylist()
        )
