"""Last pass: the runs of all parts to the shards of the store, merged range by range.

    samples of the runs' keys -> ranges of about equal size -> each range sorted by one task -> shards cut by token offsets

A range's bounds depend on how the corpus was cut into parts; the order that all ranges together make does not, since
(score, hash, id, metadata) is total, and neither do the shards.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.dedup import REASONS, read_reasons
from pipelines.executor import Item, Result
from pipelines.runs import KEY_SCHEMA, Key, Run, sort_order
from pipelines.store import Split
from pipelines.store_writer import write_shard

VERSION = 1  # raise when the same runs would give another store

RANGE_SCHEMA = KEY_SCHEMA.append(pa.field("run", pa.int32()))
"""``run``: index of the run that holds the document's tokens."""

_RANGE_DOCUMENTS = 500_000
SCORE_BIN = 0.05
"""Width of a bin of the score histogram, in units of the score."""


def bounds(
    samples: Sequence[Sequence[Any]], documents: int, target: int = _RANGE_DOCUMENTS
) -> list[tuple[Key | None, Key | None]]:
    """Cut the key space into ranges of about ``target`` documents, by the samples of all runs."""
    keys = sorted({(float(score), str(text)) for score, text in samples})
    count = max(1, min(-(-documents // target), len(keys)))
    cuts: list[Key | None] = [None, *(keys[i * len(keys) // count] for i in range(1, count)), None]
    return list(pairwise(cuts))


def sort_range(item: Item, folder: Path) -> Result:
    """Sort one range of one stream (``{"runs", "dropped", "split", "low", "high"}``) into ``range.arrow``.

    ``dropped`` names for each run the file of reason codes over its part's rows (``dedup.read_reasons``), or None.
    """
    low, high = (None if item[side] is None else (item[side][0], item[side][1]) for side in ("low", "high"))
    pieces = []
    dropped_counts: dict[str, Counter[str]] = {}
    for index, (run, dropped) in enumerate(zip(item["runs"], item["dropped"], strict=True)):
        piece = Run(Path(run), item["split"]).between(low, high)
        if dropped is not None and len(piece):
            codes = read_reasons(Path(dropped))[piece.column("row").to_numpy()]
            sizes = piece.column("bytes").to_numpy()
            for code in np.unique(codes[codes > 0]).tolist():
                counts = dropped_counts.setdefault(REASONS[code], Counter())
                counts.update(documents=int((codes == code).sum()), bytes=int(sizes[codes == code].sum()))
            piece = piece.filter(pa.array(codes == 0))
        pieces.append(piece.append_column(RANGE_SCHEMA.field("run"), pa.array(np.full(len(piece), index, np.int32))))
    rows = pa.concat_tables(pieces)
    rows = rows.take(pa.array(sort_order(rows)))
    with pa.ipc.new_file(folder / "range.arrow", RANGE_SCHEMA) as writer:
        writer.write_table(rows.combine_chunks())
    tokens = rows.column("tokens").to_numpy()
    return {
        "documents": len(rows),
        "tokens": int(tokens.sum()),
        "bytes": int(rows.column("bytes").to_numpy().sum()),
        "dropped": dropped_counts,
        "scores": _histogram(rows.column("score").to_numpy(), tokens),
    }


def make_shard(item: Item, folder: Path) -> Result:
    """Write one shard of one stream in ``folder``, laid out as in the store.

    Args:
        item: ``source``, ``split``, ``index``, ``shard_tokens``, ``dtype``; ``ranges`` (folders) that the shard touches and
            ``first_token``, the stream's offset of the first of them; ``runs`` as in ``sort_range``.
    """
    rows = pa.concat_tables([_range(Path(path)) for path in item["ranges"]])
    lengths = rows.column("tokens").to_numpy()
    starts = item["first_token"] + np.cumsum(lengths) - lengths
    begin = item["index"] * item["shard_tokens"]
    touched = np.flatnonzero((starts + lengths > begin) & (starts < begin + item["shard_tokens"]))
    rows = rows.take(pa.array(touched)).append_column("at", pa.array(starts[touched]))
    split: Split = "heldout" if item["split"] == "heldout" else "train"
    runs = {index: Run(Path(item["runs"][index]), split) for index in set(rows.column("run").to_pylist())}
    documents = rows.drop_columns(["start", "row", "run"]).rename_columns({"at": "start"})
    shard = write_shard(
        folder,
        item["source"],
        split,
        item["index"],
        shard_tokens=item["shard_tokens"],
        documents=documents,
        tokens=_gather(rows, {i: run.tokens() for i, run in runs.items()}, np.dtype(item["dtype"]), folder / "tokens"),
        targets=_gather_targets(rows, runs, folder / "targets"),
        dtype=item["dtype"],
    )
    for name in ("tokens", "targets"):
        (folder / name).unlink(missing_ok=True)
    return {"shard": json.loads(shard.model_dump_json())}


def _gather(rows: pa.Table, sources: Mapping[int, NDArray[Any]], dtype: np.dtype[Any], scratch: Path) -> NDArray[Any]:
    """The pieces of the runs' arrays that belong to the documents, joined in the final type.

    The array stands in a file, so that a shard of any size takes no memory that cannot be given back.
    """
    starts, lengths, runs = (rows.column(name).to_numpy() for name in ("start", "tokens", "run"))
    size = int(lengths.sum())
    joined: NDArray[Any] = np.memmap(scratch, dtype=dtype.newbyteorder("<"), mode="w+", shape=(size,))
    # A slice of a memmap costs ten times one of a plain array.
    target, arrays = np.asarray(joined), {run: np.asarray(tokens) for run, tokens in sources.items()}
    filled = 0
    for run, start, length in zip(runs.tolist(), starts.tolist(), lengths.tolist(), strict=True):
        target[filled : filled + length] = arrays[run][start : start + length]
        filled += length
    return joined


def _gather_targets(rows: pa.Table, runs: Mapping[int, Run], scratch: Path) -> NDArray[np.bool_] | None:
    masks = {index: run.targets() for index, run in runs.items()}
    if all(mask is None for mask in masks.values()):
        return None
    whole = {i: np.ones(len(runs[i].tokens()), dtype=np.uint8) if m is None else m for i, m in masks.items()}
    return _gather(rows, whole, np.dtype(np.uint8), scratch).view(np.bool_)


@lru_cache(maxsize=4)
def _range(folder: Path) -> pa.Table:
    with pa.memory_map(str(folder / "range.arrow")) as source:
        return pa.ipc.open_file(source).read_all()


def _histogram(scores: NDArray[np.float64], tokens: NDArray[np.int64]) -> dict[str, list[int]]:
    """Documents and tokens by score bin; the bin ``b`` holds scores in ``[b, b + 1) * SCORE_BIN``."""
    finite = np.isfinite(scores)
    bins = np.floor(scores[finite] / SCORE_BIN).astype(np.int64)
    documents, amounts = Counter(bins.tolist()), Counter[int]()
    for index, amount in zip(bins.tolist(), tokens[finite].tolist(), strict=True):
        amounts[index] += amount
    return {str(index): [documents[index], amounts[index]] for index in sorted(documents)}
