"""Build the index of evaluation n-grams: one pass over the evaluation sets, in memory on one process.

About 22 bytes an n-gram on disk and 60 while building; seventeen common sets (33 MB of text) have 2.6 million.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ground.files import canonical_json, digest_bytes, write_atomic
from pipelines.decontamination.config import DecontaminationConfig
from pipelines.decontamination.index import ARRAYS, HEADER, Header, Index, TaskHeader, filter_slots, ngrams_at
from pipelines.decontamination.tasks import find_tasks
from pipelines.words import Hashes, Offsets, TextBatch, ngram_hashes

_BATCH_CHARACTERS = 4_000_000
_BITS_PER_NGRAM = 16  # one in 16 foreign n-grams then passes the filter at most
_SMALLEST_FILTER = 1 << 10

Parts = list[NDArray[Any]]


@dataclass
class _Grams:
    """N-grams gathered so far, and the texts they stand in."""

    hashes: Parts = field(default_factory=list)
    prefixes: Parts = field(default_factory=list)
    texts: Parts = field(default_factory=list)
    text_items: Parts = field(default_factory=list)
    text_count: int = 0


def build_index(config: DecontaminationConfig, folder: Path) -> Index:
    """Read the evaluation sets of ``config`` and write their index to ``folder``.

    Raises:
        UserError: no set is named, a file is missing or broken or has no known field, or lm-eval or a task of it is missing.
    """
    grams = _Grams()
    counts: list[tuple[str, int, int, int]] = []
    first_item = 0
    for task in find_tasks(config):
        items = short = 0
        start = grams.text_count
        for batch, owners in _batches(task.items()):
            short += _gather(grams, TextBatch(batch), np.array(owners, dtype=np.int64) + first_item, config)
            items = owners[-1] + 1
        counts.append((task.name, items, grams.text_count - start, short))
        first_item += items
    return _write(grams, counts, config, folder)


def _batches(items: Iterable[list[str]]) -> Iterator[tuple[list[str], list[int]]]:
    """Texts with the number of the item each belongs to; an item without texts counts with an empty one."""
    texts: list[str] = []
    owners: list[int] = []
    size = 0
    for number, item in enumerate(items):
        for text in item or [""]:
            texts.append(text)
            owners.append(number)
            size += len(text)
        if size >= _BATCH_CHARACTERS:
            yield texts, owners
            texts, owners, size = [], [], 0
    if texts:
        yield texts, owners


def _gather(grams: _Grams, batch: TextBatch, owners: Offsets, config: DecontaminationConfig) -> int:
    """Add the n-grams of a batch of evaluation texts; returns how many texts were too short."""
    words = batch.plain_words
    sizes = np.diff(words.offsets)
    compared = sizes >= config.shortest
    numbers = np.cumsum(compared) - 1 + grams.text_count
    every, whole = ngram_hashes(words.hashes, words.offsets, config.ngram)
    at = [np.flatnonzero(whole)]
    hashes = [every[whole]]
    for length in range(config.shortest, config.ngram):
        starts = words.offsets[:-1][sizes == length]
        at.append(starts)
        hashes.append(ngrams_at(words.hashes, starts, length))
    positions = np.concatenate(at)
    grams.hashes.append(np.concatenate(hashes))
    grams.prefixes.append(ngrams_at(words.hashes, positions, config.shortest))
    grams.texts.append(numbers[np.searchsorted(words.offsets, positions, side="right") - 1].astype(np.int32))
    grams.text_items.append(owners[compared].astype(np.int32))
    grams.text_count += int(np.count_nonzero(compared))
    return int(np.count_nonzero((sizes > 0) & ~compared))


def _write(
    grams: _Grams, counts: list[tuple[str, int, int, int]], config: DecontaminationConfig, folder: Path
) -> Index:
    text_items = _joined(grams.text_items, np.int32)
    hashes, prefixes, texts = _unique(
        _joined(grams.hashes, np.uint64), _joined(grams.prefixes, np.uint64), _joined(grams.texts, np.int32)
    )
    common = _boilerplate(hashes, text_items[texts], config.max_items)
    hashes, prefixes, texts = hashes[~common], prefixes[~common], texts[~common]
    text_ngrams = np.bincount(texts, minlength=len(text_items)).astype(np.int32)
    prefixes = np.unique(prefixes)
    arrays: tuple[NDArray[Any], ...] = (_filter(prefixes), prefixes, hashes, texts, text_items, text_ngrams)
    digests = {}
    for name, values in zip(ARRAYS, arrays, strict=True):
        buffer = io.BytesIO()
        np.save(buffer, values, allow_pickle=False)
        write_atomic(folder / f"{name}.npy", buffer.getvalue())
        digests[name] = digest_bytes(buffer.getvalue())
    tasks, start = [], 0
    for name, items, size, short in counts:
        used = text_ngrams[start : start + size] > 0
        tasks.append(
            TaskHeader(
                name=name,
                items=items,
                texts=size,
                short_texts=short,
                boilerplate_texts=size - int(np.count_nonzero(used)),
                unseen_items=items - len(np.unique(text_items[start : start + size][used])),
            )
        )
        start += size
    header = Header(
        ngram=config.ngram,
        prefix=config.shortest,
        lengths=tuple(range(config.shortest, config.ngram + 1)),
        min_hits=config.min_hits,
        min_share=config.min_share,
        max_items=config.max_items,
        tasks=tuple(tasks),
        digests=digests,
    )
    write_atomic(folder / HEADER, canonical_json(header.model_dump(mode="json")))
    return Index.load(folder)


def _joined(parts: Parts, kind: type[np.generic]) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=kind)


def _unique(hashes: Hashes, prefixes: Hashes, texts: NDArray[np.int32]) -> tuple[Hashes, Hashes, NDArray[np.int32]]:
    """Each n-gram of each text once, sorted by hash and text."""
    order = np.lexsort((texts, hashes))
    hashes, prefixes, texts = hashes[order], prefixes[order], texts[order]
    new = np.ones(len(hashes), dtype=np.bool_)
    new[1:] = (hashes[1:] != hashes[:-1]) | (texts[1:] != texts[:-1])
    return hashes[new], prefixes[new], texts[new]


def _boilerplate(hashes: Hashes, items: NDArray[np.int32], most: int) -> NDArray[np.bool_]:
    """Which n-grams stand in more than ``most`` items. Both arrays are sorted by hash, then by item."""
    new_hash = np.ones(len(hashes), dtype=np.bool_)
    new_hash[1:] = hashes[1:] != hashes[:-1]
    new_item = new_hash.copy()
    new_item[1:] |= items[1:] != items[:-1]
    group = np.cumsum(new_hash) - 1
    common: NDArray[np.bool_] = (np.bincount(group, weights=new_item) > most)[group]
    return common


def _filter(prefixes: Hashes) -> NDArray[np.uint8]:
    size = _SMALLEST_FILTER
    while size * 8 < _BITS_PER_NGRAM * len(prefixes):
        size *= 2
    bits = np.zeros(size, dtype=np.uint8)
    slots = filter_slots(prefixes, size)
    np.bitwise_or.at(
        bits, (slots >> np.uint64(3)).astype(np.int64), np.uint8(1) << (slots & np.uint64(7)).astype(np.uint8)
    )
    return bits
