"""An n-gram model as hash tables: what every unit of many documents costs, by array operations.

KenLM answers one string at a time, and only a total quickly. Here a batch of documents stands in one array of unit ids, each
order of the model is one open-addressing table, and one pass an order finds all units' n-grams. The probabilities are those of
the ARPA file, so the costs equal KenLM's up to the rounding of float32.

An n-gram is found by the slot of its first n - 1 units and its last unit, so that a key fits 64 bits at any order without
collisions. Costs are whole multiples of ``1 / SCALE``: sums of them do not depend on how documents were batched.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ground.errors import UserError
from ground.files import write_atomic
from pipelines.quality.arpa import Grams

SCALE = 1 << 20
"""Costs are integers in units of 2**-20 log10: finer than the seven digits of an ARPA file need."""

BEGIN, END, UNKNOWN = 0, 1, 2
"""Ids of ``<s>``, ``</s>`` and of every unit that the model has not seen; the units themselves come after."""

_SPECIAL = 3
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: 2**64 / golden ratio
_SLOTS_PER_GRAM = 2
_BLOCK = 1 << 16  # positions at a time: the arrays of one pass stay in the cache

Ids = NDArray[np.int64]
Table = NDArray[np.uint64]
"""[slots + 1, 2]: key + 1 (0: empty), and log10 probability and backoff as two float32. The last row is an empty slot that ends
every search; in place of probabilities it holds the number of slots that keys hash to."""


@dataclass(frozen=True)
class NgramTable:
    """Log10 probabilities and backoffs of all orders.

    Args:
        unigrams: [units + 3, 2] float32: log10 probability and backoff of every unit; NaN where it was not seen.
        orders: tables of the orders 2 to n.
        unknown_log10: log10 probability charged for a unit that was not seen.
    """

    unigrams: NDArray[np.float32]
    orders: tuple[Table, ...]
    unknown_log10: float

    def costs(self, ids: Ids) -> NDArray[np.int32]:
        """Cost of each unit given those before it: -log10 probability times ``SCALE``. Shape of ``ids``.

        Args:
            ids: documents behind each other, each opened by ``BEGIN``, whose own cost is 0.
        """
        costs = np.empty(len(ids), dtype=np.int32)
        overlap = len(self.orders)
        for start in range(0, len(ids), _BLOCK):
            first = max(0, start - overlap)
            block = self._log10(ids[first : start + _BLOCK])[start - first :]
            costs[start : start + _BLOCK] = np.rint(block.astype(np.float64) * -SCALE)
        costs[ids == BEGIN] = 0
        return costs

    def knows(self, ids: Ids) -> NDArray[np.bool_]:
        """Whether each unit was in the training text."""
        known: NDArray[np.bool_] = ~np.isnan(self.unigrams[ids, 0])
        return known

    def unigram_cost(self, ceiling: float) -> float:
        """Mean of min(cost, ceiling) of units drawn one by one from the model's unigrams: domain words without any context."""
        log10 = self.unigrams[_SPECIAL:, 0].astype(np.float64)
        log10 = log10[~np.isnan(log10)]
        weights = 10.0**log10
        return float(np.sum(weights * np.minimum(-log10, ceiling)) / np.sum(weights))

    def save(self, folder: Path) -> None:
        """Write ``unigrams.npy`` and ``order-<n>.npy``."""
        save_array(folder / "unigrams.npy", self.unigrams)
        for order, table in enumerate(self.orders, 2):
            save_array(folder / f"order-{order}.npy", table)

    @classmethod
    def load(cls, folder: Path, unknown_log10: float) -> NgramTable:
        """Map saved tables into memory; processes on one machine share the pages.

        Raises:
            UserError: a file is missing or damaged.
        """
        orders = [load_array(path) for path in sorted(folder.glob("order-*.npy"))]
        return cls(load_array(folder / "unigrams.npy"), tuple(orders), unknown_log10)

    def _log10(self, ids: Ids) -> NDArray[np.float32]:
        chosen = self.unigrams[ids]
        log10, backoff = chosen[:, 0].copy(), chosen[:, 1].copy()
        unseen = np.isnan(log10)
        log10[unseen], backoff[unseen] = 0, 0
        slots = np.where(unseen, -1, ids)
        for table in self.orders:
            before = slots[:-1]
            at = np.flatnonzero(before >= 0)
            found = _find(table, before[at] * len(self.unigrams) + ids[at + 1])
            hit = found >= 0
            at, found = at[hit] + 1, found[hit]
            values = table[found, 1].view(np.float32).reshape(-1, 2)
            log10[1:] += backoff[:-1]
            log10[at] = values[:, 0]
            backoff = np.zeros_like(log10)
            backoff[at] = values[:, 1]
            slots = np.full(len(ids), -1, dtype=np.int64)
            slots[at] = found
        log10[unseen] = self.unknown_log10
        return log10


def build_table(grams: Sequence[Grams], units: int, unknown_log10: float) -> NgramTable:
    """The tables of a model.

    Args:
        grams: orders 1 to n; ids as in ``BEGIN``, ``END``, ``UNKNOWN`` and unit + 3.
        units: number of units that may occur.

    Raises:
        UserError: an n-gram stands in the model without its first n - 1 units.
    """
    unigrams = np.full((units + _SPECIAL, 2), np.nan, dtype=np.float32)
    first = grams[0]
    unigrams[first.ids[:, 0], 0], unigrams[first.ids[:, 0], 1] = first.log10, first.backoff
    unigrams[UNKNOWN] = np.nan
    tables: list[Table] = []
    for order, gram in enumerate(grams[1:], 2):
        prefixes = gram.ids[:, 0]
        for depth, table in enumerate(tables, 1):
            prefixes = _find(table, prefixes * len(unigrams) + gram.ids[:, depth])
            if (prefixes < 0).any():
                problem = f"the model has {order}-grams without their first {order - 1} units"
                raise UserError("curation.quality.model", problem, "give it as a binary written by build_binary")
        tables.append(_build(prefixes * len(unigrams) + gram.ids[:, -1], gram.log10, gram.backoff))
    return NgramTable(unigrams, tuple(tables), unknown_log10)


def unit_ids(units: NDArray[np.integer]) -> Ids:
    """Ids in the table of units counted from 0."""
    return units.astype(np.int64) + _SPECIAL


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as ``.npy``; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomic(path, buffer.getvalue())


def load_array(path: Path) -> NDArray[Any]:
    """Map an array into memory, read-only.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(str(path), f"cannot be read ({error})", "train the quality model anew") from None
    return np.asarray(mapped)  # a plain array over the same pages: np.memmap makes every small access slow


def _homes(keys: NDArray[np.uint64], slots: int) -> Ids:
    """Where the search for a key begins: the upper half of a multiplicative hash, spread over the slots."""
    high = (keys * _MULTIPLIER) >> np.uint64(32)
    return ((high * np.uint64(slots)) >> np.uint64(32)).astype(np.int64)


def _build(keys: Ids, log10: NDArray[np.float32], backoff: NDArray[np.float32]) -> Table:
    """Linear probing in the order of (home, key): each key stands at its home or right behind the one before it."""
    slots = _SLOTS_PER_GRAM * max(len(keys), 1)
    stored = keys.astype(np.uint64) + np.uint64(1)
    homes = _homes(stored, slots)
    order = np.lexsort((stored, homes))
    counted = np.arange(len(keys))
    places = np.maximum.accumulate(homes[order] - counted) + counted
    table = np.zeros((max(slots, int(places[-1]) + 1 if len(places) else 0) + 1, 2), dtype=np.uint64)
    table[places, 0] = stored[order]
    table[-1, 1] = slots
    table[places, 1] = np.ascontiguousarray(np.stack([log10, backoff], axis=1)[order]).view(np.uint64)[:, 0]
    return table


def _find(table: Table, keys: Ids) -> Ids:
    """Slot of each key, or -1."""
    wanted = keys.astype(np.uint64) + np.uint64(1)
    places = _homes(wanted, _slots(table))
    found = np.full(len(keys), -1, dtype=np.int64)
    stored = table[:, 0]
    open_ = np.arange(len(keys))
    while len(open_):
        at = stored[places]
        hit = at == wanted
        found[open_[hit]] = places[hit]
        go_on = np.flatnonzero(~hit & (at != 0))
        open_, wanted, places = open_[go_on], wanted[go_on], places[go_on] + 1
    return found


def _slots(table: Table) -> int:
    return int(table[-1, 1])
