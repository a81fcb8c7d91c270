"""Estimate an n-gram model with interpolated modified Kneser-Ney smoothing, with arrays instead of dictionaries.

The estimate is that of Chen & Goodman (1998, section 3) as lmplz makes it (Heafield et al. 2013, section 3): counts of lower
orders are numbers of different left neighbours, three discounts an order from the counts of counts, each order
interpolated with the one below, unigrams with the uniform distribution over the vocabulary and ``<unk>``.

Every n-gram is numbered by the pair (number of its first n - 1 units, last unit); sorting these numbers counts them. So 20 M
units take some tens of seconds and about a gigabyte at order 3, and no program beside this one is needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.quality.arpa import SPECIAL, Grams

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

_BEGIN, _END, _UNKNOWN = range(len(SPECIAL))
_FIRST = len(SPECIAL)
_NEVER = -99.0  # log10 probability of <s>, which begins a text and is never predicted
_FALLBACK = (0.5, 1.0, 1.5)  # lmplz's --discount_fallback, where too little text makes the estimate impossible


@dataclass(frozen=True)
class _Order:
    """The different n-grams of one order."""

    prefix: Integers
    """[n-grams] number of the first n - 1 units among the n-grams of the order below."""
    suffix: Integers
    """[n-grams] number of the last n - 1 units."""
    last: Integers
    """[n-grams] last unit."""
    begins: NDArray[np.bool_]
    """[n-grams] whether it begins with ``<s>``."""
    counts: Integers
    """[n-grams] occurrences."""


def estimate(sequences: Iterable[NDArray[np.integer]], order: int) -> list[Grams]:
    """The n-grams of orders 1 to ``order`` with their log10 probabilities and backoff weights.

    Args:
        sequences: unit numbers of each document, counted from 0; empty ones are left out.
        order: the largest n.

    Raises:
        ValueError: there is no unit.
    """
    text = _joined(sequences)
    orders = _count(text, order)
    adjusted = _adjusted_counts(orders)
    return _grams(orders, _probabilities(orders, adjusted))


def _joined(sequences: Iterable[NDArray[np.integer]]) -> Integers:
    """All documents with ``<s>`` before and ``</s>`` after each, units counted from 3."""
    pieces: list[Integers] = []
    begin, end = np.array([_BEGIN]), np.array([_END])
    for units in sequences:
        if len(units):
            pieces += [begin, np.asarray(units, dtype=np.int64) + _FIRST, end]
    if not pieces:
        raise ValueError("no unit to estimate from")
    return np.concatenate(pieces)


def _count(text: Integers, order: int) -> list[_Order]:
    """The different n-grams of every order."""
    size = int(text.max()) + 1
    # How many units of its own document, <s> included, end at each place.
    starts = np.flatnonzero(text == _BEGIN)
    depth = np.arange(len(text)) - np.repeat(starts, np.diff([*starts, len(text)])) + 1
    orders: list[_Order] = []
    # For every place in the text, the number of the n-gram of the order below that ends there.
    below = np.zeros(len(text), dtype=np.int64)
    for n in range(1, order + 1):
        places = np.flatnonzero(depth >= n)
        previous = below[places - 1] if n > 1 else below[places]
        codes, first, inverse, counts = np.unique(
            previous * size + text[places], return_index=True, return_inverse=True, return_counts=True
        )
        here = places[first]
        begins = text[here - (n - 1)] == _BEGIN
        orders.append(_Order(codes // size, below[here], codes % size, begins, counts))
        below = np.full(len(text), -1, dtype=np.int64)
        below[places] = inverse
    return orders


def _adjusted_counts(orders: Sequence[_Order]) -> list[Integers]:
    """Occurrences of the longest n-grams and of those that begin with ``<s>``; of others, their different left neighbours."""
    adjusted = []
    for lower, higher in itertools.pairwise(orders):
        neighbours = np.bincount(higher.suffix, minlength=len(lower.counts))
        adjusted.append(np.where(lower.begins, lower.counts, neighbours))
    return [*adjusted, orders[-1].counts]


def _probabilities(orders: Sequence[_Order], adjusted: Sequence[Integers]) -> list[tuple[Floats, Floats]]:
    """Probability of every n-gram's last unit after the others, and the weight it leaves to the order below as a context."""
    predicted = orders[0].last != _BEGIN
    uniform = 1.0 / (int(predicted.sum()) + 1)  # <unk> has a share, <s> has none
    below = np.array([uniform])
    probabilities: list[Floats] = []
    weights: list[Floats] = []
    for n, (grams, counts) in enumerate(zip(orders, adjusted, strict=True), start=1):
        usable = predicted if n == 1 else np.ones(len(counts), dtype=np.bool_)
        discounts = np.array([0.0, *_discounts(counts[usable])])[np.minimum(counts, 3)]
        contexts = 1 if n == 1 else len(orders[n - 2].counts)
        prefix = grams.prefix[usable]
        totals = np.bincount(prefix, counts[usable], minlength=contexts)
        left = np.bincount(prefix, discounts[usable], minlength=contexts)
        weight = np.divide(left, totals, out=np.ones(contexts), where=totals > 0)
        share = (counts - discounts) / np.maximum(totals[grams.prefix], 1)
        found = share + weight[grams.prefix] * below[grams.suffix if n > 1 else np.zeros(len(counts), dtype=np.int64)]
        probabilities.append(np.where(usable, found, 0.0))
        weights.append(weight)
        below = probabilities[-1]
    unknown = float(weights[0][0]) * uniform
    last = np.ones(len(orders[-1].counts))
    return [(np.array([unknown]), np.ones(1)), *zip(probabilities, [*weights[1:], last], strict=True)]


def _discounts(counts: Integers) -> tuple[float, float, float]:
    """D1, D2, D3+ (Chen & Goodman 1998, equation 17)."""
    n1, n2, n3, n4 = (float(value) for value in np.bincount(np.minimum(counts, 5), minlength=6)[1:5])
    if 0 in (n1, n2, n3, n4):
        return _FALLBACK
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if all(0 <= value <= k for k, value in enumerate(found, start=1)) else _FALLBACK


def _grams(orders: Sequence[_Order], estimates: Sequence[tuple[Floats, Floats]]) -> list[Grams]:
    (unknown, _), *rest = estimates
    grams = []
    ids = np.empty((1, 0), dtype=np.int64)
    for n, (order, (probability, weight)) in enumerate(zip(orders, rest, strict=True), start=1):
        ids = np.column_stack([ids[order.prefix], order.last])
        with np.errstate(divide="ignore"):
            log10, backoff = np.log10(probability), np.log10(weight)
        log10[probability == 0] = _NEVER
        if n == 1:
            row = np.array([[_UNKNOWN]])
            grams.append(_sorted(np.vstack([ids, row]), np.append(log10, np.log10(unknown)), np.append(backoff, 0.0)))
            continue
        grams.append(_sorted(ids, log10, backoff))
    return grams


def _sorted(ids: Integers, log10: Floats, backoff: Floats) -> Grams:
    order = np.lexsort(ids.T[::-1])
    return Grams(ids[order], log10[order].astype(np.float32), backoff[order].astype(np.float32))
