"""The token store: every source once, immutable, domain documents best first, any window of L tokens in O(1).

    store/COMPLETE                         marker, written last: the digests of manifest.json and, if there, of lineage.json
    store/manifest.json                    counts, shards with checksums, digests of inputs, configuration and tokenizer
    store/lineage.json                     what it was made from, for people and catalogues (optional)
    store/tokenizer/                       the tokenizer the tokens belong to
    store/<source>/<split>-00000.tokens    a piece of the source's token stream, little-endian uint16 or uint32
    store/<source>/<split>-00000.starts    where in that piece documents start, little-endian uint32, ascending
    store/<source>/<split>-00000.targets   the target mask of that piece, one byte a token (instruction data only)
    store/<source>/<split>-00000.docs.parquet   the documents that start in that piece: id, hash, score, tokens, bytes,
                                           start and, if one of them has any, metadata (JSON)

A source's stream is its documents one after the other, each followed by the end-of-document token, cut into pieces of a
fixed size. A window may cross a piece; a document too.

Every byte of these files is under a checksum. Files that the manifest does not name are never read and do no harm, but
for the tokenizer's folder, where libraries read what is there: it must hold exactly the files of the manifest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError

from ground.errors import CorruptError, UserError
from ground.files import canonical_json, digest_bytes, digest_file, write_atomic
from pipelines.manifest import Manifest, Shard, StoredSource, Stream, token_dtype
from pipelines.pieces import START, Pieces
from pipelines.plan import SourceSize
from pipelines.store_cache import CachedFiles, StoreCache, digest_source
from pipelines.tokenizer import load_tokenizer

__all__ = [
    "LINEAGE",
    "MANIFEST",
    "MARKER",
    "SPLITS",
    "TOKENIZER",
    "Manifest",
    "Shard",
    "Split",
    "StoredSource",
    "Stream",
    "TokenStore",
    "Tokens",
    "completed",
    "seal",
    "shard_stem",
    "token_dtype",
]

Split = Literal["train", "heldout"]
Tokens = NDArray[np.int64]
SPLITS: tuple[Split, ...] = ("train", "heldout")

MANIFEST, MARKER, TOKENIZER, LINEAGE = "manifest.json", "COMPLETE", "tokenizer", "lineage.json"


def shard_stem(store: Path, source: str, split: Split, index: int) -> Path:
    """Path of a piece without its ending."""
    return store / source / f"{split}-{index:05d}"


def completed(store: Path, manifest: Manifest) -> tuple[str, str]:
    """The text of the manifest with the digests of the tokenizer's files, and its digest, which is the store's."""
    whole = manifest.model_copy(update={"tokenizer_files": _digest_folder(store / TOKENIZER)})
    text = canonical_json(whole.model_dump(mode="json"))
    return text, digest_bytes(text)


def seal(store: Path, manifest: Manifest) -> str:
    """Write the manifest and then, atomically and last, the marker that makes the store complete. Returns its digest.

    Whatever else belongs to the store (shards, tokenizer, lineage) must be there by now.
    """
    text, digest = completed(store, manifest)
    write_atomic(store / MANIFEST, text)
    write_atomic(store / MARKER, _marker(store, digest))
    return digest


def _marker(store: Path, digest: str) -> str:
    lineage = store / LINEAGE
    return f"{digest}\n" + (f"{digest_file(lineage)}\n" if lineage.is_file() else "")


def _digest_folder(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): digest_file(file) for file in sorted(folder.rglob("*")) if file.is_file()
    }


@dataclass(frozen=True)
class TokenStore:
    """A complete store, open for reading."""

    path: Path
    manifest: Manifest
    digest: str
    cache: StoreCache | None = None
    origin: str | None = None
    """URL of the pieces, where ``path`` has only the rest (``pipelines.store_remote``)."""

    @classmethod
    def open(
        cls, path: Path | str, *, verify: bool = False, cache: StoreCache | None = None, origin: str | None = None
    ) -> TokenStore:
        """Open a complete store; sizes are always checked, contents (every checksum) when ``verify``.

        With a ``cache`` pieces are read from there, and checked as they are copied to it.

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
        marker = (path / MARKER).read_bytes()
        if marker != _marker(path, digest).encode():
            wrong = LINEAGE if marker.startswith(f"{digest}\n".encode()) else MANIFEST
            raise CorruptError("curation.store", f"{path / wrong} does not match its checksum in {MARKER}", _REMAKE)
        try:
            manifest = Manifest.model_validate(json.loads(text))
        except ValidationError:
            raise CorruptError(
                "curation.store", f"{path} was written by another version of the store format", _REMAKE
            ) from None
        store = cls(path, manifest, digest, cache, origin)
        if origin is None:
            store._check_sizes()
        if verify:
            store.verify()
        return store

    @property
    def sizes(self) -> dict[str, SourceSize]:
        """What a plan needs to know of each source."""
        return {name: SourceSize(source.role, source.train.tokens) for name, source in self.manifest.sources.items()}

    @property
    def location(self) -> str:
        """Where another process finds it: an absolute path, or the URL."""
        return self.origin or str(self.path.resolve())

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
        pieces = self._tokens[source, split]
        for row, index in enumerate(indices.tolist()):
            pieces.copy(index * length, out[row])
        return out

    def window(self, source: str, index: int, length: int, split: Split = "train") -> Tokens:
        """One window, int64 of shape [length]."""
        row: Tokens = self.windows(source, np.array([index]), length, split)[0]
        return row

    def has_targets(self, source: str, split: Split = "train") -> bool:
        """Whether the stream has a target mask."""
        return any(shard.targets_digest for shard in self.stream(source, split).shards)

    def targets(
        self, source: str, indices: NDArray[np.int64], length: int, split: Split = "train"
    ) -> NDArray[np.bool_]:
        """Where the loss counts in the same windows, bool of shape [len(indices), length]; all true without a mask."""
        out = np.ones((len(indices), length), dtype=np.bool_)
        pieces = self._targets.get((source, split))
        for row, index in enumerate(indices.tolist()):
            if pieces is None:
                self._within(source, split, index * length, length)
            else:
                pieces.copy(index * length, out[row])
        return out

    def document_starts(
        self, source: str, indices: NDArray[np.int64], length: int, split: Split = "train"
    ) -> list[NDArray[np.int32]]:
        """Where documents start within the same windows, for block-diagonal attention and resetting positions.

        A window that begins inside a document has no start at 0: what stands before its first start goes on from the
        window before. Looks up memory-mapped files by bisection: O(log documents) a window, and no memory of its own.

        Returns:
            For each window the ascending positions in 0..length-1 at which a document starts; empty if there is none.
        """
        pieces, starts = self._starts[source, split], []
        for low in (indices * length).tolist():
            self._within(source, split, low, length)
            starts.append(pieces.starts(low, low + length))
        return starts

    def documents(self, source: str, split: Split = "train") -> dict[str, NDArray[Any]]:
        """Columns of all documents of a stream in order: ``id, hash, score, tokens, bytes, start``, perhaps ``metadata``."""
        tables = [pq.read_table(file) for file in self._files(source, split, ".docs.parquet")]
        if not tables:
            return {}
        # A piece none of whose documents has metadata lacks that column.
        table = pa.concat_tables(tables, promote_options="default")
        return {name: table.column(name).to_numpy() for name in table.column_names}

    def __reduce__(self) -> tuple[type[TokenStore], tuple[Any, ...]]:
        # Without the memory maps, which would travel to a worker as all their tokens.
        return TokenStore, (self.path, self.manifest, self.digest, self.cache, self.origin)

    def verify(self) -> None:
        """Read every file and compare its checksum.

        Raises:
            CorruptError: names the first file that differs.
        """
        for stem, shard in self._shards():
            for ending, digest in shard.digests().items():
                file = self._location(stem.with_suffix(ending))
                if digest is not None and digest_source(file) != digest:
                    raise CorruptError("curation.store", f"{file} does not match its checksum", _REMAKE)
        found, expected = _digest_folder(self.tokenizer_path), self.manifest.tokenizer_files
        for file_name in sorted(found.keys() | expected.keys()):
            if found.get(file_name) != expected.get(file_name):
                problem = "does not match its checksum" if file_name in expected else "does not belong to the store"
                raise CorruptError("curation.store", f"{self.tokenizer_path / file_name} {problem}", _REMAKE)
        if load_tokenizer(str(self.tokenizer_path)).digest != self.manifest.tokenizer_digest:
            raise CorruptError("curation.store", f"{self.tokenizer_path} is not the tokenizer of the tokens", _REMAKE)

    def _check_sizes(self) -> None:
        width = np.dtype(self.manifest.dtype).itemsize
        for stem, shard in self._shards():
            sizes = {".tokens": shard.tokens * width, ".starts": shard.documents * START.itemsize}
            if shard.targets_digest is not None:
                sizes[".targets"] = shard.tokens
            for ending, size in sizes.items():
                file = stem.with_suffix(ending)
                actual = file.stat().st_size if file.is_file() else -1
                if actual != size:
                    found = "is missing" if actual < 0 else f"has {actual:,} bytes instead of {size:,}"
                    raise CorruptError("curation.store", f"{file} {found}", _REMAKE)

    def _shards(self) -> Iterator[tuple[Path, Shard]]:
        """Every piece of the store with its path without ending."""
        for name in self.manifest.sources:
            for split in SPLITS:
                yield from zip(self._stems(name, split), self.stream(name, split).shards, strict=True)

    def _within(self, source: str, split: Split, start: int, length: int) -> None:
        if start < 0 or start + length > self.stream(source, split).tokens:
            raise IndexError(f"window at token {start} is outside {source}/{split}")

    @cached_property
    def _tokens(self) -> dict[tuple[str, Split], Pieces]:
        return self._pieces(".tokens", np.dtype(self.manifest.dtype).newbyteorder("<"))

    @cached_property
    def _starts(self) -> dict[tuple[str, Split], Pieces]:
        return self._pieces(".starts", START)

    @cached_property
    def _targets(self) -> dict[tuple[str, Split], Pieces]:
        masked = self._pieces(".targets", np.dtype(np.uint8))
        return {key: pieces for key, pieces in masked.items() if self.has_targets(*key)}

    def _pieces(self, ending: str, dtype: np.dtype[Any]) -> dict[tuple[str, Split], Pieces]:
        return {
            (name, split): Pieces(self._files(name, split, ending), dtype, self.manifest.shard_tokens)
            for name in self.manifest.sources
            for split in SPLITS
        }

    def _files(self, source: str, split: Split, ending: str) -> Sequence[Path]:
        files = [stem.with_suffix(ending) for stem in self._stems(source, split)]
        if self.cache is None:
            return files
        digests = [shard.digests()[ending] or "" for shard in self.stream(source, split).shards]
        return CachedFiles(self.cache, list(zip(map(self._location, files), digests, strict=True)))

    def _location(self, file: Path) -> str:
        return str(file) if self.origin is None else f"{self.origin}/{file.relative_to(self.path).as_posix()}"

    def _stems(self, source: str, split: Split) -> list[Path]:
        return [shard_stem(self.path, source, split, i) for i in range(len(self.stream(source, split).shards))]


_REMAKE = "remove the folder and run `steady curate` again"
