"""What of a source its readers use: where it lies, which format it has, which fields hold what."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ground.config import Section
from pipelines.paths import Format


class SourceReading(Section):
    """How the documents of one source are read."""

    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    """Files, globs, folders or URLs (``s3://``, ``gs://``, ``file://``: anything fsspec reads). With ``format: huggingface``:
    folders that ``datasets.save_to_disk`` wrote, or names on the Hugging Face hub."""
    format: Format = "auto"
    """``auto`` goes by the ending: ``.jsonl``/``.ndjson``/``.json``, ``.parquet``, ``.arrow``/``.feather``, ``.txt``/``.md``,
    ``.warc``/``.wet``; ``.gz`` and ``.zst`` may follow, but for Parquet and Arrow. A folder that ``save_to_disk`` wrote is
    known as such. ``text`` makes one document of each file."""
    text_field: str = "text"
    """Field (JSON) or column (Parquet, Arrow) that holds the document. WARC and text files have no other text."""
    id_field: str | None = "id"
    """Field that holds the document's id; absent or null: ``<file name>#<position>``, the position being the byte at which
    a JSON row begins in the uncompressed file, else the row's number. WARC: the record's URI."""
    metadata_fields: tuple[str, ...] = ()
    """Fields kept beside the document as one JSON text. WARC offers ``url``, ``date`` and ``mime``."""
    messages_field: str | None = None
    """Field with a conversation, a list of ``{role, content}``. When set, it is the document: the messages are kept as JSON
    for the chat template, and ``text`` is their contents with blank lines between, so that filters and deduplication work."""
    max_malformed_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Largest share of a file's rows that may hold no document; they are counted and sampled. Above it the file is an error:
    crawls have a few broken rows in ten thousand, while a wrong field or format breaks all of them, so 1 % tells the two
    apart. Judged over files of 100 rows or more. 1 accepts everything, Parquet files without the column too."""
    sample_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Keep the documents whose hash lies in the lowest share of all hashes: a random choice, the same on every run, that
    needs no pass over the corpus. Held-out documents come first in that order, as with ``max_documents``."""
    max_documents: Annotated[int, Field(ge=1)] | None = None
    """Keep only the documents with the smallest hashes, this many: a random choice, the same on every run, for trials. Held-out
    documents come first in that order, so a trial is measured on the same ones as the full corpus. Costs one more pass."""
    max_files: Annotated[int, Field(ge=1)] | None = None
    """Read only this many files, those whose names have the smallest hashes: a trial on a corpus too large to pass over."""
    huggingface_split: str = "train"
    """Split of a Hugging Face dataset."""
    huggingface_config: str | None = None
    """Configuration (subset) of a dataset on the hub; absent: its only or default one."""
