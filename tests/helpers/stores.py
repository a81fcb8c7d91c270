"""Small stores made of known tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.config import Role
from pipelines.store import Manifest, Split, StoredSource, Stream, TokenStore, seal, token_dtype
from pipelines.store_writer import DOCUMENT_SCHEMA, write_shard
from pipelines.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer

Documents = list[NDArray[np.int64]]


def random_documents(tokens: int, vocabulary: int, seed: int, mean_length: int = 60) -> Documents:
    """Documents of a learnable random language (each token mostly determines the next), ``tokens`` in all."""
    rng = np.random.default_rng(seed)
    # Train and held-out (seeds 2n and 2n + 1) share a language.
    successor = np.random.default_rng(1000 + seed // 2).permutation(vocabulary - 1) + 1
    documents, left = [], tokens
    while left > 0:
        length = min(left, int(rng.integers(2, 2 * mean_length)))
        ids = np.empty(length, dtype=np.int64)
        ids[0] = rng.integers(1, vocabulary)
        jumps = rng.random(length) < 0.1
        for i in range(1, length):
            ids[i] = rng.integers(1, vocabulary) if jumps[i] else successor[ids[i - 1] - 1]
        ids[-1] = 0
        documents.append(ids)
        left -= length
    return documents


def random_targets(documents: Documents, seed: int) -> NDArray[np.bool_]:
    """A target mask as answers make it: the end of each document, from nothing to nearly all of it."""
    rng = np.random.default_rng(seed)
    parts = [np.arange(len(ids)) >= (1 - rng.random() ** 3) * len(ids) for ids in documents]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.bool_)


def write_stream(
    path: Path,
    source: str,
    split: Split,
    documents: Documents,
    vocabulary: int,
    shard_tokens: int,
    targets: NDArray[np.bool_] | None = None,
) -> Stream:
    """Write documents as one split of one source; scores ascend."""
    lengths = [len(document) for document in documents]
    starts = np.cumsum([0, *lengths])[:-1]
    table = pa.table(
        {
            "id": [f"{source}-{split}-{i}" for i in range(len(documents))],
            "hash": [f"{i:032x}" for i in range(len(documents))],
            "score": [float(i) for i in range(len(documents))],
            "tokens": lengths,
            "bytes": [4 * length for length in lengths],
            "start": starts,
        },
        schema=DOCUMENT_SCHEMA,
    )
    joined = np.concatenate(documents) if documents else np.empty(0, dtype=np.int64)
    shards = [
        write_shard(
            path,
            source,
            split,
            index,
            shard_tokens=shard_tokens,
            documents=table,
            tokens=joined,
            dtype=token_dtype(vocabulary),
            targets=targets,
        )
        for index in range(-(-len(joined) // shard_tokens))
    ]
    return Stream(tokens=sum(lengths), documents=len(documents), bytes=4 * sum(lengths), shards=tuple(shards))


def whole_stream(
    sources: dict[str, tuple[Role, int]], name: str, split: Split, *, vocabulary: int = 300, heldout_tokens: int = 2000
) -> NDArray[np.int64]:
    """The token stream that ``make_store`` with the same arguments writes for one source."""
    number = sorted(sources).index(name)
    if split == "train":
        return np.concatenate(random_documents(sources[name][1], vocabulary, 2 * number))
    return np.concatenate(random_documents(heldout_tokens, vocabulary, 2 * number + 1))


def make_store(
    path: Path,
    sources: dict[str, tuple[Role, int]],
    *,
    vocabulary: int = 300,
    shard_tokens: int = 4096,
    heldout_tokens: int = 2000,
    masked: tuple[str, ...] = (),
) -> TokenStore:
    """A complete store with random documents: ``sources`` maps a name to its role and number of training tokens.

    Args:
        masked: sources with a target mask.
    """
    stored = {}
    for number, (name, (role, tokens)) in enumerate(sorted(sources.items())):
        train = random_documents(tokens, vocabulary, 2 * number)
        held = random_documents(heldout_tokens, vocabulary, 2 * number + 1) if heldout_tokens else []
        masks = [random_targets(part, number) if name in masked else None for part in (train, held)]
        stored[name] = StoredSource(
            role=role,
            train=write_stream(path, name, "train", train, vocabulary, shard_tokens, masks[0]),
            heldout=write_stream(path, name, "heldout", held, vocabulary, shard_tokens, masks[1]),
        )
    save_tokenizer(train_tokenizer(["a tiny text to train a tokenizer on"], vocabulary), path / "tokenizer")
    manifest = Manifest(
        dtype=token_dtype(vocabulary),
        vocabulary=vocabulary,
        end_of_document=0,
        shard_tokens=shard_tokens,
        tokenizer_digest=load_tokenizer(str(path / "tokenizer")).digest,
        sources=stored,
        lineage={},
        funnel={},
    )
    seal(path, manifest)
    return TokenStore.open(path)
