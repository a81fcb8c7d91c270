"""Writing the pieces of a token store. A piece depends only on the documents in it, never on who writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ground.files import digest_bytes, write_atomic
from pipelines.pieces import START
from pipelines.store import Shard, Split, shard_stem

METADATA = pa.field("metadata", pa.string())
"""Optional column of the documents: what the source said of a document beside its text, as JSON; null for nothing."""

DOCUMENT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("hash", pa.string()),
        ("score", pa.float64()),
        ("tokens", pa.int64()),
        ("bytes", pa.int64()),
        ("start", pa.int64()),
    ]
)


def write_shard(
    store: Path,
    source: str,
    split: Split,
    index: int,
    *,
    shard_tokens: int,
    documents: pa.Table,
    tokens: NDArray[Any],
    dtype: str,
    targets: NDArray[np.bool_] | None = None,
) -> Shard:
    """Write shard ``index`` of a stream: its tokens ``index * shard_tokens ..`` and the documents that start there.

    Args:
        documents: columns of ``DOCUMENT_SCHEMA`` and perhaps ``METADATA``, at least every document with a token in the
            shard, in stream order.
        tokens: the token ids of exactly these documents, joined, int of shape [sum of their lengths].
        dtype: ``uint16`` or ``uint32``.
        targets: where the loss counts, bool of the same shape as ``tokens``; absent: everywhere, and no mask is written.
    """
    starts = documents.column("start").to_numpy()
    first = index * shard_tokens
    skip = first - int(starts[0])
    assert skip >= 0, (source, split, index)
    span = slice(skip, skip + shard_tokens)
    # A shard is as large as memory allows: no copy where the tokens come in their final type.
    data = np.ascontiguousarray(tokens[span], dtype=np.dtype(dtype).newbyteorder("<")).view(np.uint8).data
    size = len(data) // np.dtype(dtype).itemsize
    stem = shard_stem(store, source, split, index)
    write_atomic(stem.with_suffix(".tokens"), data)
    mask = None
    if targets is not None:
        assert targets.shape == tokens.shape, (targets.shape, tokens.shape)
        mask = np.ascontiguousarray(targets[span], dtype=np.uint8).data
        write_atomic(stem.with_suffix(".targets"), mask)
    starting = (starts >= first) & (starts < first + size)
    positions = (starts[starting] - first).astype(START).tobytes()
    write_atomic(stem.with_suffix(".starts"), positions)
    here = documents.filter(pa.array(starting))
    schema = DOCUMENT_SCHEMA
    if METADATA.name in here.column_names and here.column(METADATA.name).null_count < here.num_rows:
        schema = schema.append(METADATA)
    here = here.select(schema.names).cast(schema).combine_chunks()
    sink = pa.BufferOutputStream()
    # Fixed settings and no pandas metadata: the same documents give the same bytes.
    pq.write_table(
        here.replace_schema_metadata(None), sink, compression="zstd", row_group_size=1 << 16, store_schema=False
    )
    table_bytes = sink.getvalue().to_pybytes()
    write_atomic(stem.with_suffix(".docs.parquet"), table_bytes)
    return Shard(
        tokens=size,
        digest=digest_bytes(data),
        documents=here.num_rows,
        documents_digest=digest_bytes(table_bytes),
        starts_digest=digest_bytes(positions),
        targets_digest=None if mask is None else digest_bytes(mask),
    )
