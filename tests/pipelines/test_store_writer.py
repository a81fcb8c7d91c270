"""A shard depends only on the documents in it, not on how the work was cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ground.files import digest_file
from pipelines.store import Manifest, StoredSource, Stream, TokenStore, seal, shard_stem
from pipelines.store_writer import DOCUMENT_SCHEMA, METADATA, write_shard
from pipelines.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer


def table(lengths: list[int]) -> pa.Table:
    n = len(lengths)
    return pa.table(
        {
            "id": [f"d{i}" for i in range(n)],
            "hash": [f"{i:032x}" for i in range(n)],
            "score": [i / 7 for i in range(n)],
            "tokens": lengths,
            "bytes": [3 * length for length in lengths],
            "start": np.cumsum([0, *lengths])[:-1],
        },
        schema=DOCUMENT_SCHEMA,
    )


def write_documents(
    path: Path,
    documents: list[NDArray[np.int64]],
    *,
    shard_tokens: int,
    targets: NDArray[np.bool_] | None = None,
    metadata: list[str | None] | None = None,
) -> TokenStore:
    """A complete store of one domain source ``med`` with these documents."""
    described = table([len(document) for document in documents])
    if metadata is not None:
        described = described.append_column(METADATA, pa.array(metadata, pa.string()))
    tokens = np.concatenate(documents)
    shards = tuple(
        write_shard(
            path,
            "med",
            "train",
            index,
            shard_tokens=shard_tokens,
            documents=described,
            tokens=tokens,
            dtype="uint16",
            targets=targets,
        )
        for index in range(-(-len(tokens) // shard_tokens))
    )
    train = Stream(tokens=len(tokens), documents=len(documents), bytes=3 * len(tokens), shards=shards)
    nothing = Stream(tokens=0, documents=0, bytes=0, shards=())
    save_tokenizer(train_tokenizer(["a tiny text to train a tokenizer on"], 300), path / "tokenizer")
    manifest = Manifest(
        dtype="uint16",
        vocabulary=300,
        end_of_document=0,
        shard_tokens=shard_tokens,
        tokenizer_digest=load_tokenizer(str(path / "tokenizer")).digest,
        sources={"med": StoredSource(role="domain", train=train, heldout=nothing)},
        lineage={},
        funnel={},
    )
    seal(path, manifest)
    return TokenStore.open(path, verify=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shards")


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(5, 100), st.data())
def test_a_writer_needs_only_the_documents_of_its_shard(
    folder: Path, lengths: list[int], shard_tokens: int, data: st.DataObject
) -> None:
    documents, total = table(lengths), sum(lengths)
    tokens = np.arange(total)
    starts = documents.column("start").to_numpy()
    index = data.draw(st.integers(0, -(-total // shard_tokens) - 1))
    first, end = index * shard_tokens, min((index + 1) * shard_tokens, total)
    needed = (starts < end) & (starts + lengths > first)
    low, high = np.flatnonzero(needed)[[0, -1]]
    low = data.draw(st.integers(0, low))  # more than needed does no harm
    here = documents.slice(low, high + 1 - low)
    upto = starts[high] + lengths[high]

    cut: dict[str, Any] = {"shard_tokens": shard_tokens, "dtype": "uint32"}
    mask, span = tokens % 3 == 0, slice(int(starts[low]), int(upto))
    part = write_shard(
        folder / "part", "med", "train", index, documents=here, tokens=tokens[span], targets=mask[span], **cut
    )
    whole = write_shard(
        folder / "whole", "med", "train", index, documents=documents, tokens=tokens, targets=mask, **cut
    )

    assert part == whole
    stem = shard_stem(folder / "part", "med", "train", index)
    assert part.digest == digest_file(stem.with_suffix(".tokens"))
    assert part.documents_digest == digest_file(stem.with_suffix(".docs.parquet"))
    assert np.fromfile(stem.with_suffix(".tokens"), dtype="<u4").tolist() == list(range(first, end))
    assert part.starts_digest == digest_file(stem.with_suffix(".starts"))
    assert part.targets_digest == digest_file(stem.with_suffix(".targets"))
    assert np.fromfile(stem.with_suffix(".targets"), dtype=np.uint8).tolist() == mask[first:end].tolist()
    kept = pq.read_table(stem.with_suffix(".docs.parquet"))
    assert kept.schema.equals(DOCUMENT_SCHEMA)
    assert kept.column("start").to_pylist() == starts[(starts >= first) & (starts < end)].tolist()
    assert np.fromfile(stem.with_suffix(".starts"), dtype="<u4").tolist() == [
        start - first for start in kept.column("start").to_pylist()
    ]
    assert part.documents == kept.num_rows
    assert part.tokens == end - first


def test_chunks_of_a_table_do_not_change_its_bytes(folder: Path) -> None:
    documents = table([10] * 20)
    chunked = pa.concat_tables([documents.slice(0, 3), documents.slice(3, 9), documents.slice(12)])
    options: dict[str, Any] = {"shard_tokens": 500, "tokens": np.arange(200), "dtype": "uint16"}
    one = write_shard(folder / "one", "med", "train", 0, documents=documents, **options)
    other = write_shard(folder / "other", "med", "train", 0, documents=chunked, **options)
    assert one == other


def test_names_sort_as_they_follow(tmp_path: Path) -> None:
    assert shard_stem(tmp_path, "med", "heldout", 12) == tmp_path / "med" / "heldout-00012"
