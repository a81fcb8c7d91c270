"""A small token store of random tokens, for benchmarks whose speed does not depend on what the tokens say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines.config import Role
from pipelines.store import Manifest, Split, StoredSource, Stream, TokenStore, seal, token_dtype
from pipelines.store_writer import DOCUMENT_SCHEMA, write_shard
from pipelines.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer

_DOCUMENT_TOKENS = 500


def random_store(folder: Path, tokens: dict[str, tuple[Role, int]], *, vocabulary: int, heldout: int) -> TokenStore:
    """Make a complete store.

    Args:
        tokens: role and number of training tokens of each source.
        heldout: held-out tokens of each source.
    """
    sources = {}
    for seed, (name, (role, count)) in enumerate(tokens.items()):
        sources[name] = StoredSource(
            role=role,
            train=_stream(folder, name, "train", count, vocabulary=vocabulary, seed=2 * seed),
            heldout=_stream(folder, name, "heldout", heldout, vocabulary=vocabulary, seed=2 * seed + 1),
        )
    save_tokenizer(train_tokenizer(["random tokens need no tokenizer, a store does"], 300), folder / "tokenizer")
    manifest = Manifest(
        dtype=token_dtype(vocabulary),
        vocabulary=vocabulary,
        end_of_document=0,
        shard_tokens=max(heldout, *(count for _, count in tokens.values())),
        tokenizer_digest=load_tokenizer(str(folder / "tokenizer")).digest,
        sources=sources,
        lineage={},
        funnel={},
    )
    seal(folder, manifest)
    return TokenStore.open(folder)


def _stream(folder: Path, source: str, split: Split, tokens: int, *, vocabulary: int, seed: int) -> Stream:
    ids = np.random.default_rng(seed).integers(1, vocabulary, tokens)
    starts = np.arange(0, tokens, _DOCUMENT_TOKENS)
    lengths = np.diff(np.append(starts, tokens))
    ids[starts + lengths - 1] = 0  # end of document
    rows = {
        "id": [f"{source}-{split}-{start}" for start in starts],
        "hash": [f"{start:032x}" for start in starts],
        "score": np.zeros(len(starts)),
        "tokens": lengths,
        "bytes": 4 * lengths,
        "start": starts,
    }
    documents = pa.table(rows, schema=DOCUMENT_SCHEMA)
    dtype = token_dtype(vocabulary)
    shard = write_shard(folder, source, split, 0, shard_tokens=tokens, documents=documents, tokens=ids, dtype=dtype)
    return Stream(tokens=tokens, documents=len(starts), bytes=4 * tokens, shards=(shard,))
