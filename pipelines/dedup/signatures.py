"""What deduplication keeps of a document: a hash of its content and a MinHash signature of its shingles.

The content hash is BLAKE3-128 of the text with runs of ASCII white space made one space. Shingles are the n-grams of
words in lower case without signs; a document of fewer words is one shingle, one without words has none and is never a
near duplicate. A signature row is one byte, a hash of the minimum (b-bit minwise hashing, Li & König 2010): unlike rows
agree by chance once in 256, which the estimate takes out, and a document costs 256 bytes instead of 1024.

``rensa``'s R-MinHash (Fast Similarity Sketching, Dahlgaard et al. 2017) makes the rows: 260 MB/s a core on long documents
(NumPy over 256 permutations: 46), 22 on those of 250 bytes (20), and its estimates vary less. Its algorithm has a
version, which is kept with the signatures. Content hash, words and signature together take 12 to 33 MB/s.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray
from rensa import RMinHash

from ground.errors import CorruptError
from pipelines.dedup.config import DedupConfig, FuzzyConfig
from pipelines.dedup.tables import Array, open_table, write_table
from pipelines.words import Hashes, Offsets, TextBatch, Words, ngram_hashes

SIGNATURES = "signatures.arrow"
"""File of a part's signatures in its folder."""

_SEED = 1
_CHUNK_BYTES = 1 << 18  # the arrays of the words of so much text fit the processor's cache
_CHUNK_DOCUMENTS = 256  # rensa's rows leave it as Python integers: few at a time are twice as fast
_SPREAD = np.uint32(0x9E3779B1)  # odd: every bit of a minimum reaches the byte that is kept


def content_hash(text: str) -> bytes:
    """BLAKE3-128 of a text, the same when only runs of ASCII white space differ."""
    return blake3(b" ".join(text.encode().split())).digest(16)


def shingles(words: Words, n: int) -> tuple[Hashes, Offsets]:
    """Hashes of the n-grams of each document's words.

    Returns:
        hashes [shingles] and offsets [documents + 1].
    """
    hashes, whole = ngram_hashes(words.hashes, words.offsets, n)
    lengths = np.diff(words.offsets)
    for length in range(1, n):
        firsts = words.offsets[:-1][lengths == length]
        own = words.hashes[firsts[:, None] + np.arange(length)].ravel()
        hashes[firsts] = ngram_hashes(own, np.arange(0, len(own) + 1, length), length)[0][::length]
        whole[firsts] = True
    before = np.concatenate([[0], np.cumsum(whole)])
    return hashes[whole], before[words.offsets]


def minhash(hashes: Hashes, offsets: Offsets, permutations: int) -> NDArray[np.uint8]:
    """Signatures [documents, permutations] of the shingles ``hashes[offsets[i]:offsets[i + 1]]``."""
    pack = struct.Struct(f"{permutations}I").pack
    pieces = []
    for first in range(0, len(offsets) - 1, _CHUNK_DOCUMENTS):
        bounds = offsets[first : first + _CHUNK_DOCUMENTS + 1]
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            hashes[bounds[0] : bounds[-1]], (bounds - bounds[0]).astype(np.uint64), permutations, _SEED
        )
        pieces.append(b"".join([pack(*row) for row in matrix.to_rows()]))
    minima = np.frombuffer(b"".join(pieces), dtype=np.uint32).reshape(-1, permutations)
    return ((minima * _SPREAD) >> np.uint32(24)).astype(np.uint8)


def estimate_similarity(equal_rows: Array, permutations: int) -> NDArray[np.float64]:
    """Jaccard similarity from the number of equal signature rows, those equal by chance taken out."""
    by_chance = 1 / 256
    return np.maximum(0.0, (equal_rows / permutations - by_chance) / (1 - by_chance))


def signature_version(config: DedupConfig) -> str:
    """What signatures of two documents must share to be compared."""
    if config.fuzzy is None:
        return "content 1"
    fuzzy = config.fuzzy
    return f"content 1, R-MinHash {RMinHash.ALGORITHM_VERSION}, {fuzzy.permutations} x 8 bit, {fuzzy.ngram} words"


def check_signatures(path: Path, rows: int, config: DedupConfig) -> None:
    """Check that a part's signatures are whole and were made with the same settings.

    Raises:
        CorruptError: they are not.
    """
    batch = open_table(path)
    made, wanted = (batch.schema.metadata or {}).get(b"signatures", b"").decode(), signature_version(config)
    mend = "remove the work folder and run the command again"
    if made != wanted:
        raise CorruptError(str(path), f"holds signatures of another kind ({made or 'none'} instead of {wanted})", mend)
    if batch.num_rows != rows:
        raise CorruptError(str(path), f"holds {batch.num_rows} signatures of {rows} documents", mend)


class SignatureWriter:
    """Collects the signatures of a part's documents and writes them, a row a document, in the order of ``add``.

    It holds about 320 bytes a document. The file has the columns ``content_high``, ``content_low``, ``hash_high``,
    ``hash_low`` (halves of 128 bits), ``key`` (hash of the id), ``heldout``, ``id``, and with fuzzy deduplication
    ``signed`` (whether there is any shingle) and ``signature``.

    Args:
        folder: the part's folder; ``signatures.arrow`` appears in it when the writer is closed.
    """

    def __init__(self, folder: Path, config: DedupConfig) -> None:
        self.path, self.config = folder / SIGNATURES, config
        self._digests: list[bytes] = []
        self._hashes: list[str] = []
        self._ids: list[str] = []
        self._heldout: list[bool] = []
        self._signed: list[NDArray[np.bool_]] = []
        self._signatures: list[NDArray[np.uint8]] = []

    def add(self, texts: Sequence[str], ids: Sequence[str], hashes: Sequence[str], heldout: Sequence[bool]) -> None:
        """Sign documents.

        Args:
            texts: as they will be in the store.
            ids: the documents' ids, which settle ties between copies of the same text.
            hashes: 32 hex digits each (``Documents.hashes``).
        """
        self._digests += map(content_hash, texts)
        self._hashes += hashes
        self._ids += ids
        self._heldout += heldout
        if self.config.fuzzy is not None:
            for chunk in _chunks(texts):
                self._sign(chunk, self.config.fuzzy)

    def close(self) -> int:
        """Write the file and return its number of rows."""
        columns: dict[str, Array] = {}
        columns["content_high"], columns["content_low"] = _halves(b"".join(self._digests))
        columns["hash_high"], columns["hash_low"] = _halves(bytes.fromhex("".join(self._hashes)))
        keys = b"".join([blake3(key.encode()).digest(8) for key in self._ids])
        columns["key"] = np.frombuffer(keys, dtype=">u8").astype(np.uint64)
        columns["heldout"] = np.array(self._heldout, dtype=np.uint8)
        if self.config.fuzzy is not None:
            empty = np.empty((0, self.config.fuzzy.permutations), dtype=np.uint8)
            columns["signed"] = np.concatenate([np.empty(0, dtype=np.uint8), *self._signed]).astype(np.uint8)
            columns["signature"] = np.concatenate([empty, *self._signatures])
        write_table(self.path, columns, {"id": self._ids}, {"signatures": signature_version(self.config)})
        return len(self._ids)

    def _sign(self, texts: list[str], fuzzy: FuzzyConfig) -> None:
        hashes, offsets = shingles(TextBatch(texts).plain_words, fuzzy.ngram)
        self._signed.append(np.diff(offsets) > 0)
        self._signatures.append(minhash(hashes, offsets, fuzzy.permutations))


def _halves(digests: bytes) -> tuple[Hashes, Hashes]:
    """High and low 64 bits of 128-bit numbers in big-endian order, so that they sort as their hex digits do."""
    halves = np.frombuffer(digests, dtype=">u8").reshape(-1, 2).astype(np.uint64)
    return halves[:, 0], halves[:, 1]


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
