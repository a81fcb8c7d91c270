"""The manifest of a token store: what it holds, piece by piece, with a checksum of every file."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ground.config import Section
from pipelines.config import Role

_SMALLEST_UINT16_OVERFLOW = 1 << 16


class Shard(Section):
    """One piece of a token stream."""

    tokens: int
    """Tokens in this piece."""
    digest: str
    """BLAKE3 (128 bits, hex) of the ``.tokens`` file."""
    documents: int
    """Documents that start in this piece."""
    documents_digest: str
    """BLAKE3 of the ``.docs.parquet`` file."""
    starts_digest: str
    """BLAKE3 of the ``.starts`` file."""
    targets_digest: str | None = None
    """BLAKE3 of the ``.targets`` file, for data with a target mask."""

    def digests(self) -> dict[str, str | None]:
        """Checksum of the piece's files, by ending."""
        return {
            ".tokens": self.digest,
            ".starts": self.starts_digest,
            ".docs.parquet": self.documents_digest,
            ".targets": self.targets_digest,
        }


class Stream(Section):
    """One split of one source."""

    tokens: int
    documents: int
    bytes: int
    """UTF-8 bytes of the documents' text, for bits per byte."""
    shards: tuple[Shard, ...]


class StoredSource(Section):
    """One source of a store."""

    role: Role
    train: Stream
    heldout: Stream


class Manifest(Section):
    """What the store holds and what it was made from. No times, hosts or paths: equal inputs give equal bytes."""

    format: Literal[2] = 2
    dtype: Literal["uint16", "uint32"]
    vocabulary: int
    """Size of the tokenizer's vocabulary; every token is below it."""
    end_of_document: int
    """Token that follows every document."""
    shard_tokens: int
    """Tokens in every piece of a stream but the last."""
    tokenizer_digest: str
    tokenizer_files: dict[str, str] = Field(default_factory=dict)
    """BLAKE3 of every file in the tokenizer's folder, by name; ``completed`` fills it in."""
    sources: dict[str, StoredSource]
    lineage: dict[str, Any]
    """Digests of inputs, configuration and quality model."""
    funnel: dict[str, Any]
    """Per source: documents and bytes read, dropped by reason, kept."""


def token_dtype(vocabulary: int) -> Literal["uint16", "uint32"]:
    """The smallest type that holds every token id."""
    return "uint16" if vocabulary <= _SMALLEST_UINT16_OVERFLOW else "uint32"
