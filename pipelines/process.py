"""What happens to one batch of documents: filter, tokenise, score. Pure: a document's row depends on its text alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ground.config import Section
from pipelines.config import FilterConfig, Role
from pipelines.documents import Documents
from pipelines.filters import build_filters, first_reason
from pipelines.tokenizer import LoadedTokenizer, encode_batch, load_tokenizer

KEPT = ""
"""The ``reason`` of a document that stays."""

ROW_SCHEMA = pa.schema(
    [
        ("stream", pa.string()),
        ("score", pa.float64()),
        ("hash", pa.string()),
        ("id", pa.string()),
        ("bytes", pa.int64()),
        ("reason", pa.string()),
        ("count", pa.int64()),
        ("tokens", pa.int64()),
        ("data", pa.large_binary()),
    ]
)
"""One row a document; dropped ones keep only what the funnel counts. ``data``: token ids as little-endian uint32."""

Scorer = Callable[[Sequence[NDArray[np.uint32]]], Sequence[float] | NDArray[np.float64]]


class Step(Section):
    """What a worker needs to process documents of one source; small, so that it travels with every task."""

    source: str
    role: Role
    tokenizer: str
    """Folder of the tokenizer."""
    filters: FilterConfig
    heldout_fraction: float
    ngram: str | None = None
    """n-gram model that ranks domain documents."""
    unknown_log10: float = -6.5


def is_held_out(document_hash: str, fraction: float) -> bool:
    """Whether a document is held out: by its own hash, so that nothing else in the corpus can change it."""
    return int(document_hash[:8], 16) < fraction * (1 << 32)


def process(step: Step, documents: Documents, scorer: Scorer | None) -> pa.Table:
    """Rows of ``ROW_SCHEMA`` for a batch of documents; general documents get score 0 and so stand in hash order."""
    filters = build_filters(step.filters)
    texts = documents.texts
    reasons = [first_reason(filters, text) or KEPT for text in texts]
    kept = [index for index, reason in enumerate(reasons) if reason == KEPT]
    loaded = tokenizer_of(step.tokenizer)
    encoded = encode_batch(loaded.tokenizer, [texts[index] for index in kept], loaded.eos_id)
    scores = scorer(encoded) if scorer is not None and step.role == "domain" else [0.0] * len(kept)
    data: list[bytes] = [b""] * len(texts)
    lengths, ranked = [0] * len(texts), [0.0] * len(texts)
    for index, tokens, score in zip(kept, encoded, scores, strict=True):
        data[index], lengths[index], ranked[index] = tokens.astype("<u4").tobytes(), len(tokens), score
    held_out = [is_held_out(value, step.heldout_fraction) for value in documents.hashes]
    streams = [f"{step.source}/{'heldout' if held else 'train'}" for held in held_out]
    counts = [1] * len(texts)
    columns = [streams, ranked, documents.hashes, documents.ids, documents.bytes, reasons, counts, lengths, data]
    return pa.table(dict(zip(ROW_SCHEMA.names, columns, strict=True)), schema=ROW_SCHEMA)


def malformed_rows(step: Step, counts: dict[str, int]) -> pa.Table:
    """Rows that stand for records which were no documents (broken JSON, no text), so that the funnel counts them."""
    names = sorted(counts)
    values = [counts[name] for name in names]
    size = len(names)
    columns = [
        [f"{step.source}/train"] * size,
        [0.0] * size,
        [""] * size,
        [""] * size,
        [0] * size,
        names,
        values,
        [0] * size,
    ]
    return pa.table(dict(zip(ROW_SCHEMA.names, [*columns, [b""] * size], strict=True)), schema=ROW_SCHEMA)


@lru_cache(maxsize=4)
def tokenizer_of(folder: str) -> LoadedTokenizer:
    """The tokenizer, loaded once per process."""
    return load_tokenizer(folder)
