"""Writing the pieces of a token store. A piece depends only on the documents in it, never on who writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ground.files import digest_bytes, write_atomic
from pipelines.store import Shard, Split, shard_stem

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
) -> Shard:
    """Write shard ``index`` of a stream: its tokens ``index * shard_tokens ..`` and the documents that start there.

    Args:
        documents: columns of ``DOCUMENT_SCHEMA``, at least every document with a token in the shard, in stream order.
        tokens: the token ids of exactly these documents, joined, int of shape [sum of their lengths].
        dtype: ``uint16`` or ``uint32``.
    """
    starts = documents.column("start").to_numpy()
    first = index * shard_tokens
    skip = first - int(starts[0])
    assert skip >= 0, (source, split, index)
    data = tokens[skip : skip + shard_tokens].astype(np.dtype(dtype).newbyteorder("<")).tobytes()
    size = len(data) // np.dtype(dtype).itemsize
    stem = shard_stem(store, source, split, index)
    write_atomic(stem.with_suffix(".tokens"), data)
    here = documents.filter(pa.array((starts >= first) & (starts < first + size)))
    here = here.select(DOCUMENT_SCHEMA.names).cast(DOCUMENT_SCHEMA).combine_chunks()
    sink = pa.BufferOutputStream()
    # Fixed settings and no pandas metadata: the same documents give the same bytes.
    pq.write_table(
        here.replace_schema_metadata(None), sink, compression="zstd", row_group_size=1 << 16, store_schema=False
    )
    table_bytes = sink.getvalue().to_pybytes()
    write_atomic(stem.with_suffix(".docs.parquet"), table_bytes)
    return Shard(
        tokens=size, digest=digest_bytes(data), documents=here.num_rows, documents_digest=digest_bytes(table_bytes)
    )
