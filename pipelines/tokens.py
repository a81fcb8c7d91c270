"""Second pass: one part of clean documents to runs of tokens, scored and sorted.

run/scores.npy           [rows of the part] quality score of each document, lower is better
run/train.*, heldout.*   the sorted runs of the two splits (``runs.py``)
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ground.config import Section
from pipelines.chat import encode_chats
from pipelines.encoder import Encoder
from pipelines.executor import Item, Result
from pipelines.quality import ColumnScorer, Scorer, load_column_scorer, load_scorer
from pipelines.runs import write_run
from pipelines.tokenizer import LoadedTokenizer, load_tokenizer

SCORES = "scores.npy"
REFUSED = "refused_by_template"
VERSION = 1  # raise when the same part would give other runs


class Tokenisation(Section):
    """How the documents of a part are encoded and scored."""

    tokenizer: str
    """Folder of the tokenizer."""
    fast_tokenizer: bool
    quality: str | None
    """Folder of the quality model, for domain documents; None: every score is 0, so documents stand in hash order."""


def tokenise(item: Item, folder: Path) -> Result:
    """Make the runs of one part (``{"tokenisation", "part"}``) in ``folder``."""
    how = Tokenisation.model_validate(item["tokenisation"])
    rows = _rows(Path(item["part"]))
    seconds: defaultdict[str, float] = defaultdict(float)
    tokens, targets, scores = _encode_all(rows, how, seconds)
    np.save(folder / SCORES, scores)
    started = time.perf_counter()
    documents = rows.select(["hash", "id", "metadata", "bytes", "heldout"])
    documents = documents.append_column("score", pa.array(scores)).append_column("row", pa.array(range(len(rows))))
    held_out = documents.column("heldout").to_numpy().astype(np.bool_)
    # A conversation that the chat template refuses has no tokens.
    empty = np.array([not len(ids) for ids in tokens], dtype=np.bool_)
    refused = Counter(documents=int(empty.sum()), bytes=int(documents.column("bytes").to_numpy()[empty].sum()))
    result: Result = {"dropped": {REFUSED: refused} if refused["documents"] else {}}
    for split, mask in (("train", ~held_out), ("heldout", held_out)):
        chosen = np.flatnonzero(mask & ~empty)
        result[split] = write_run(
            folder,
            "heldout" if split == "heldout" else "train",
            documents.take(pa.array(chosen)),
            [tokens[i] for i in chosen],
            None if targets is None else [targets[i] for i in chosen],
        )
    seconds["write"] += time.perf_counter() - started
    return result | {"seconds": dict(seconds)}


def _rows(part: Path) -> pa.Table:
    with pa.memory_map(str(part / "documents.arrow")) as source:
        return pa.ipc.open_file(source).read_all()


def _encode_all(
    rows: pa.Table, how: Tokenisation, seconds: defaultdict[str, float]
) -> tuple[list[NDArray[np.uint32]], list[NDArray[np.bool_]] | None, NDArray[np.float64]]:
    """Tokens, target masks (None for plain text) and scores of the documents, batch by batch."""
    tokens: list[NDArray[np.uint32]] = []
    targets: list[NDArray[np.bool_]] = []
    scores: list[NDArray[np.float64]] = [np.empty(0)]
    for batch in rows.to_batches(max_chunksize=1000):
        texts = batch.column("text").to_pylist()
        messages = batch.column("messages").to_pylist()
        started = time.perf_counter()
        encoded, masks = _encode(texts, messages, how)
        tokens += encoded
        targets += masks
        seconds["tokenise"] += time.perf_counter() - started
        started = time.perf_counter()
        scores.append(_score(batch, encoded, how.quality))
        seconds["score"] += time.perf_counter() - started
    # Adding 0 turns -0.0 into 0.0, which sorts as its equal and differs in its bytes.
    return tokens, targets or None, np.concatenate(scores) + 0.0


def _encode(
    texts: Sequence[str], messages: Sequence[str | None], how: Tokenisation
) -> tuple[list[NDArray[np.uint32]], list[NDArray[np.bool_]]]:
    if any(message is not None for message in messages):
        pairs = encode_chats(how.tokenizer, [message or "[]" for message in messages])
        return [ids for ids, _ in pairs], [mask for _, mask in pairs]
    return _encoder(how.tokenizer, how.fast_tokenizer)(texts), []


@lru_cache(maxsize=2)
def tokenizer_of(folder: str) -> LoadedTokenizer:
    """The tokenizer, loaded once per process."""
    return load_tokenizer(folder)


@lru_cache(maxsize=2)
def _encoder(folder: str, fast: bool) -> Encoder:
    return Encoder(tokenizer_of(folder), fast=fast)


def _score(batch: pa.RecordBatch, tokens: Sequence[NDArray[np.uint32]], quality: str | None) -> NDArray[np.float64]:
    if quality is None:
        return np.zeros(batch.num_rows)
    beside = _column_scorer(quality)
    if beside is not None:
        return beside.score(batch.column(beside.reads).to_pylist())
    return _scorer(quality)(tokens, batch.column("text").to_pylist())


@lru_cache(maxsize=2)
def _column_scorer(folder: str) -> ColumnScorer | None:
    return load_column_scorer(Path(folder))


@lru_cache(maxsize=2)
def _scorer(folder: str) -> Scorer:
    return load_scorer(Path(folder))
