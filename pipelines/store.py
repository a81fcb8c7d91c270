"""The token store: every source once, immutable, domain documents best first, any window of L tokens in O(1).

    store/COMPLETE                         marker, written last: the digest of manifest.json
    store/manifest.json                    counts, shards with checksums, digests of inputs, configuration and tokenizer
    store/tokenizer/                       the tokenizer the tokens belong to
    store/<source>/<split>-00000.tokens    a piece of the source's token stream, little-endian uint16 or uint32
    store/<source>/<split>-00000.targets   the target mask of that piece, one byte a token (instruction data only)
    store/<source>/<split>-00000.docs.parquet   the documents that start in that piece: id, hash, score, tokens, bytes, start

A source's stream is its documents one after the other, each followed by the end-of-document token, cut into pieces of a
fixed size. A window may cross a piece; a document too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError

from ground.config import Section
from ground.errors import CorruptError, UserError
from ground.files import canonical_json, digest_bytes, digest_file, write_atomic
from pipelines.config import Role
from pipelines.plan import SourceSize
from pipelines.tokenizer import load_tokenizer

Split = Literal["train", "heldout"]
Tokens = NDArray[np.int64]

MANIFEST, MARKER, TOKENIZER = "manifest.json", "COMPLETE", "tokenizer"
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
    targets_digest: str | None = None
    """BLAKE3 of the ``.targets`` file, for data with a target mask."""


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

    format: Literal[1] = 1
    dtype: Literal["uint16", "uint32"]
    vocabulary: int
    """Size of the tokenizer's vocabulary; every token is below it."""
    end_of_document: int
    """Token that follows every document."""
    shard_tokens: int
    """Tokens in every piece of a stream but the last."""
    tokenizer_digest: str
    sources: dict[str, StoredSource]
    lineage: dict[str, Any]
    """Digests of inputs, configuration and quality model."""
    funnel: dict[str, Any]
    """Per source: documents and bytes read, dropped by reason, kept."""


def token_dtype(vocabulary: int) -> Literal["uint16", "uint32"]:
    """The smallest type that holds every token id."""
    return "uint16" if vocabulary <= _SMALLEST_UINT16_OVERFLOW else "uint32"


def shard_stem(store: Path, source: str, split: Split, index: int) -> Path:
    """Path of a piece without its ending."""
    return store / source / f"{split}-{index:05d}"


def seal(store: Path, manifest: Manifest) -> str:
    """Write the manifest and then, atomically and last, the marker that makes the store complete. Returns its digest."""
    text = canonical_json(manifest.model_dump(mode="json"))
    write_atomic(store / MANIFEST, text)
    digest = digest_bytes(text)
    write_atomic(store / MARKER, digest + "\n")
    return digest


@dataclass(frozen=True)
class TokenStore:
    """A complete store, open for reading."""

    path: Path
    manifest: Manifest
    digest: str

    @classmethod
    def open(cls, path: Path | str, *, verify: bool = False) -> TokenStore:
        """Open a complete store; sizes are always checked, contents (every checksum) when ``verify``.

        Raises:
            UserError: there is no store, or it is not complete.
            CorruptError: the manifest or a shard does not match its checksum or size; the shard is named.
        """
        path = Path(path)
        if not (path / MARKER).is_file():
            problem = (
                "is half-written (no marker COMPLETE)"
                if path.is_dir() and any(path.iterdir())
                else f"has no store at {path}"
            )
            raise UserError("curation.store", problem, "run `steady curate` with this recipe")
        text = (path / MANIFEST).read_bytes() if (path / MANIFEST).is_file() else b""
        digest = digest_bytes(text)
        if (path / MARKER).read_bytes() != f"{digest}\n".encode():
            raise CorruptError("curation.store", f"{path / MANIFEST} does not match its checksum in {MARKER}", _REMAKE)
        try:
            manifest = Manifest.model_validate(json.loads(text))
        except ValidationError:
            raise CorruptError(
                "curation.store", f"{path} was written by another version of the store format", _REMAKE
            ) from None
        store = cls(path, manifest, digest)
        store._check_sizes()
        if verify:
            store.verify()
        return store

    @property
    def sizes(self) -> dict[str, SourceSize]:
        """What a plan needs to know of each source."""
        return {name: SourceSize(source.role, source.train.tokens) for name, source in self.manifest.sources.items()}

    @property
    def tokenizer_path(self) -> Path:
        """Folder with the tokenizer the tokens belong to."""
        return self.path / TOKENIZER

    def stream(self, source: str, split: Split = "train") -> Stream:
        """The description of one split of one source."""
        stored = self.manifest.sources[source]
        return stored.train if split == "train" else stored.heldout

    def windows(self, source: str, indices: NDArray[np.int64], length: int, split: Split = "train") -> Tokens:
        """Windows ``index*length .. (index+1)*length`` of a stream, as int64 of shape [len(indices), length]."""
        out = np.empty((len(indices), length), dtype=np.int64)
        for row, index in enumerate(indices.tolist()):
            self._read(source, split, index * length, out[row])
        return out

    def window(self, source: str, index: int, length: int, split: Split = "train") -> Tokens:
        """One window, int64 of shape [length]."""
        row: Tokens = self.windows(source, np.array([index]), length, split)[0]
        return row

    def documents(self, source: str, split: Split = "train") -> dict[str, NDArray[Any]]:
        """Columns of all documents of a stream in order: ``id, hash, score, tokens, bytes, start``."""
        shards = range(len(self.stream(source, split).shards))
        tables = [pq.read_table(shard_stem(self.path, source, split, i).with_suffix(".docs.parquet")) for i in shards]
        if not tables:
            return {}
        columns = tables[0].column_names
        return {c: np.concatenate([t.column(c).to_numpy(zero_copy_only=False) for t in tables]) for c in columns}

    def verify(self) -> None:
        """Read every file and compare its checksum.

        Raises:
            CorruptError: names the first file that differs.
        """
        for name in self.manifest.sources:
            for split in ("train", "heldout"):
                for index, shard in enumerate(self.stream(name, split).shards):
                    stem = shard_stem(self.path, name, split, index)
                    expected = {
                        ".tokens": shard.digest,
                        ".docs.parquet": shard.documents_digest,
                        ".targets": shard.targets_digest,
                    }
                    for ending, digest in expected.items():
                        file = stem.with_suffix(ending)
                        if digest is not None and (not file.is_file() or digest_file(file) != digest):
                            raise CorruptError("curation.store", f"{file} does not match its checksum", _REMAKE)
        if load_tokenizer(str(self.tokenizer_path)).digest != self.manifest.tokenizer_digest:
            raise CorruptError("curation.store", f"{self.tokenizer_path} is not the tokenizer of the tokens", _REMAKE)

    def _check_sizes(self) -> None:
        width = np.dtype(self.manifest.dtype).itemsize
        for name in self.manifest.sources:
            for split in ("train", "heldout"):
                for index, shard in enumerate(self.stream(name, split).shards):
                    file = shard_stem(self.path, name, split, index).with_suffix(".tokens")
                    size = file.stat().st_size if file.is_file() else -1
                    if size != shard.tokens * width:
                        found = "is missing" if size < 0 else f"has {size:,} bytes instead of {shard.tokens * width:,}"
                        raise CorruptError("curation.store", f"{file} {found}", _REMAKE)

    def _read(self, source: str, split: Split, start: int, out: Tokens) -> None:
        if start < 0:
            raise IndexError(f"window at token {start} is outside {source}/{split}")
        size, filled = self.manifest.shard_tokens, 0
        while filled < len(out):
            shard, offset = divmod(start + filled, size)
            piece = self._maps[source, split][shard][offset : offset + len(out) - filled]
            if not len(piece):
                raise IndexError(f"window at token {start} is outside {source}/{split}")
            out[filled : filled + len(piece)] = piece
            filled += len(piece)

    @cached_property
    def _maps(self) -> dict[tuple[str, str], list[np.memmap[Any, np.dtype[Any]]]]:
        dtype = np.dtype(self.manifest.dtype).newbyteorder("<")
        return {
            (name, split): [
                np.memmap(shard_stem(self.path, name, split, index).with_suffix(".tokens"), dtype=dtype, mode="r")
                for index in range(len(self.stream(name, split).shards))
            ]
            for name in self.manifest.sources
            for split in ("train", "heldout")
        }


_REMAKE = "remove the folder and run `steady curate` again"
