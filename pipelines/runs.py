"""Sorted runs: the tokens of one part's documents, best first, as the last merge needs them.

    run/<split>.keys.arrow   one row a document (``KEY_SCHEMA``), sorted by (score, hash, id, metadata)
    run/<split>.tokens       their token ids in the same order, little-endian uint32
    run/<split>.targets      their target masks, one byte a token (instruction data only)

A range of scores is a contiguous piece of every run, found by binary search in a memory-mapped file.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.store import Split

Key = tuple[float, str]
"""(score, hash): where a document stands in its stream."""

KEY_SCHEMA = pa.schema(
    [
        ("score", pa.float64()),
        ("hash", pa.string()),
        ("id", pa.string()),
        ("metadata", pa.string()),
        ("bytes", pa.int64()),
        ("tokens", pa.int64()),
        ("start", pa.int64()),
        ("row", pa.int64()),
    ]
)
"""``start``: where the document's tokens begin in the run's file; ``row``: its row in the part."""

_SORTING = [(name, "ascending", "at_start") for name in ("score", "hash", "id", "metadata")]
_SAMPLES = 64


def sort_order(documents: pa.Table) -> NDArray[np.int64]:
    """Row numbers in the order of the store: by (score, hash, id, metadata), absent metadata first."""
    order: NDArray[np.uint64] = pc.sort_indices(documents, sort_keys=_SORTING).to_numpy()
    return order.astype(np.int64)


def write_run(
    folder: Path,
    split: Split,
    documents: pa.Table,
    tokens: Sequence[NDArray[np.uint32]],
    targets: Sequence[NDArray[np.bool_]] | None,
) -> dict[str, Any]:
    """Sort documents and write them as a run.

    Args:
        documents: columns of ``KEY_SCHEMA`` but ``tokens`` and ``start``.
        tokens: ids of each document, its end included.

    Returns:
        ``documents``, ``tokens``, ``bytes`` and up to 64 ``samples`` of its keys, evenly spaced.
    """
    order = sort_order(documents).tolist()
    lengths = np.array([len(tokens[i]) for i in order], dtype=np.int64)
    ordered = documents.take(pa.array(order, pa.int64()))
    ordered = ordered.append_column("tokens", pa.array(lengths))
    ordered = ordered.append_column("start", pa.array(np.cumsum(lengths) - lengths))
    ordered = ordered.select(KEY_SCHEMA.names).cast(KEY_SCHEMA).combine_chunks()
    with pa.ipc.new_file(folder / f"{split}.keys.arrow", KEY_SCHEMA) as writer:
        writer.write_table(ordered)
    with open(folder / f"{split}.tokens", "wb") as file:
        for i in order:
            file.write(tokens[i].astype("<u4").tobytes())
    if targets is not None:
        with open(folder / f"{split}.targets", "wb") as file:
            for i in order:
                file.write(targets[i].astype(np.uint8).tobytes())
    scores, hashes = ordered.column("score").to_pylist(), ordered.column("hash").to_pylist()
    step = max(1, len(order) // _SAMPLES)
    return {
        "documents": len(order),
        "tokens": int(lengths.sum()),
        "bytes": int(np.sum(ordered.column("bytes").to_numpy())),
        "samples": [[scores[i], hashes[i]] for i in range(0, len(order), step)],
    }


@dataclass(frozen=True)
class Run:
    """A run, open for reading."""

    folder: Path
    split: Split

    @cached_property
    def keys(self) -> pa.Table:
        """``KEY_SCHEMA`` rows in order, memory-mapped."""
        with pa.memory_map(str(self.folder / f"{self.split}.keys.arrow")) as source:
            return pa.ipc.open_file(source).read_all()

    def between(self, low: Key | None, high: Key | None) -> pa.Table:
        """The rows with ``low <= (score, hash) < high``; None: no bound."""
        first = 0 if low is None else self._position(low)
        last = len(self.keys) if high is None else self._position(high)
        return self.keys.slice(first, max(0, last - first))

    def tokens(self) -> NDArray[np.uint32]:
        """All token ids, memory-mapped."""
        return self._map("tokens", "<u4")

    def targets(self) -> NDArray[np.uint8] | None:
        """All target bytes, memory-mapped, or None where every token is a target."""
        return self._map("targets", np.uint8) if (self.folder / f"{self.split}.targets").is_file() else None

    def _map(self, name: str, dtype: Any) -> NDArray[Any]:
        file = self.folder / f"{self.split}.{name}"
        return np.memmap(file, dtype=dtype, mode="r") if file.stat().st_size else np.empty(0, dtype=dtype)

    def _position(self, key: Key) -> int:
        scores, hashes = self.keys.column("score"), self.keys.column("hash")
        return bisect_left(range(len(self.keys)), key, key=lambda i: (scores[i].as_py(), hashes[i].as_py()))
