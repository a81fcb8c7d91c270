"""N-grams of words that occur more than once in a document, for a whole batch.

An n-gram can only repeat where its first n - 1 words do, so that each length looks at the few positions the one before it
left; all of them together cost little more than the shortest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.words import NGRAM_BASE, Hashes, Offsets, mix, sort_hashes

_PLACE = 40  # bits for the place of a word in a batch


@dataclass(frozen=True)
class Repeats:
    """The n-grams of one length that occur at least twice in their document."""

    n: int
    at: Offsets
    """[occurrences] first word of each occurrence, ascending."""
    group: Offsets
    """[occurrences] number of the n-gram among those of the batch, from 0; the same in one document only."""
    is_first: NDArray[np.bool_]
    """[occurrences] whether it is the first of its group."""
    documents: Offsets
    """[occurrences] the document of each."""


def repeated_ngrams(hashes: Hashes, offsets: Offsets, lengths: Sequence[int]) -> Iterator[Repeats]:
    """The repeated n-grams for every n from the least to the greatest in ``lengths``.

    Args:
        hashes: [words] hash of each word.
        offsets: [documents + 1] the words of document i are ``offsets[i]:offsets[i + 1]``.
        lengths: the n that are wanted.
    """
    if not lengths:
        return
    all_documents = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    at, combined = np.arange(len(hashes)), hashes.copy()
    for k in range(1, min(lengths) - 1):
        combined[:-k] = combined[:-k] * NGRAM_BASE + hashes[k:]
    for n in range(min(lengths), max(lengths) + 1):
        documents = all_documents[at]
        whole = at + n <= offsets[documents + 1]
        at, documents = at[whole], documents[whole]
        combined = combined[whole] * NGRAM_BASE + hashes[at + n - 1] if n > 1 else combined
        keys = mix(combined)
        order = sort_hashes(keys)
        sorted_keys, sorted_documents = keys[order], documents[order]
        again = np.zeros(len(order), dtype=np.bool_)
        again[1:] = (sorted_keys[1:] == sorted_keys[:-1]) & (sorted_documents[1:] == sorted_documents[:-1])
        repeats = again.copy()
        repeats[:-1] |= again[1:]
        chosen, again = order[repeats], again[repeats]
        # Back from the order of hashes to that of the text.
        is_chosen = np.zeros(len(order), dtype=np.bool_)
        is_chosen[chosen] = True
        group, is_first = np.zeros(len(order), dtype=np.int64), np.zeros(len(order), dtype=np.bool_)
        group[chosen], is_first[chosen] = np.cumsum(~again) - 1, ~again
        at, combined = at[is_chosen], combined[is_chosen]
        yield Repeats(n, at, group[is_chosen], is_first[is_chosen], documents[is_chosen])


def top_characters(repeats: Repeats, offsets: Offsets, ends: Offsets) -> Offsets:
    """Characters that the most frequent n-gram of each document takes up, spaces between its words included.

    Among equally frequent ones the first counts. 0 for a document of fewer than n words.

    Args:
        repeats: the repeated n-grams.
        offsets: [documents + 1] the words of document i are ``offsets[i]:offsets[i + 1]``.
        ends: [words + 1] characters in all words before each.
    """
    n, best = repeats.n, offsets[:-1].copy()
    times = (np.diff(offsets) >= n).astype(np.int64)
    if len(repeats.at):
        counts = np.bincount(repeats.group)
        at_first = repeats.is_first
        # One number ranks by count, then by earliest place.
        rank = (counts[repeats.group[at_first]] << _PLACE) - repeats.at[at_first]
        highest = np.zeros(len(best), dtype=np.int64)
        np.maximum.at(highest, repeats.documents[at_first], rank)
        found = highest > 0
        times[found] = -(-highest[found] >> _PLACE)
        best[found] = (times[found] << _PLACE) - highest[found]
    stop = np.minimum(best + n, len(ends) - 1)
    return np.where(times > 0, times * (ends[stop] - ends[best] + n - 1), 0)


def duplicate_characters(repeats: Repeats, size: int, ends: Offsets, limits: NDArray[np.floating]) -> Offsets:
    """Characters in n-grams read before, when a reader goes on behind each n-gram that it knows.

    Only n-grams that begin where the reader looked count as read. Documents that cannot pass their limit get 0.

    Args:
        repeats: the repeated n-grams.
        size: number of documents.
        ends: [words + 1] characters in all words before each.
        limits: [documents] characters above which the exact number matters.
    """
    n = repeats.n
    again = np.flatnonzero(~repeats.is_first)
    at, documents = repeats.at[again], repeats.documents[again]
    following = np.append(at[1:], len(ends))
    # The counted n-grams are no first ones and do not overlap, so that they lie within what these cover.
    most = np.bincount(documents, ends[np.minimum(at + n, following)] - ends[at], minlength=size)
    found = np.zeros(size, dtype=np.int64)
    for document in np.flatnonzero(most > limits).tolist():
        low, high = np.searchsorted(repeats.documents, [document, document + 1]).tolist()
        at_here, groups = repeats.at[low:high].tolist(), repeats.group[low:high].tolist()
        known, behind, characters = set(), 0, 0
        for position, group in zip(at_here, groups, strict=True):
            if position < behind:
                continue
            if group in known:
                characters += int(ends[position + n] - ends[position])
                behind = position + n
            else:
                known.add(group)
        found[document] = characters
    return found
