"""The index of evaluation n-grams: sorted hashes in files that workers map into memory, and the look-up of a batch.

An index is a folder of plain ``.npy`` files (no pickle) and ``index.json``, which is written last and holds their digests:

- ``prefixes.npy``: the hash of the first words (``Header.prefix`` of them) of each n-gram, sorted; ``filter.npy``: a bit for
  each. One pass over a batch's words asks the bits, the few that pass are sought among the prefixes, and only where one is
  found are whole n-grams formed: so n-grams of several lengths cost no more than of one.
- ``hashes.npy``, ``texts.npy``: for each n-gram of each evaluation text its hash and the text, sorted by both.
- ``text_items.npy``, ``text_ngrams.npy``: the item each text belongs to, and how many distinct n-grams it has.

The folder is a function of the evaluation sets and the configuration alone, to the byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ground.config import Section
from ground.errors import CorruptError, UserError
from ground.files import digest_file
from pipelines.words import Hashes, Offsets, TextBatch, Words, ngram_hashes

ARRAYS = ("filter", "prefixes", "hashes", "texts", "text_items", "text_ngrams")
HEADER = "index.json"
_EXCERPT_BYTES = 300


class TaskHeader(Section):
    """What an index knows of one evaluation set."""

    name: str
    """Its name."""
    items: int
    """Items it has."""
    texts: int
    """Texts of them that are compared."""
    short_texts: int
    """Texts with fewer words than ``shortest``, which are not."""
    unseen_items: int
    """Items none of whose texts is compared: this much of the set the index is blind to."""
    boilerplate_texts: int
    """Texts all of whose n-grams stand in more than ``max_items`` items, which are not either."""


class Header(Section):
    """``index.json``."""

    ngram: int
    """Words of an n-gram."""
    prefix: int
    """Words of an n-gram that the filter looks at; also the shortest evaluation text that is compared."""
    lengths: tuple[int, ...]
    """Lengths in words of the n-grams in the index: ``ngram``, and those of shorter texts that are compared whole."""
    min_hits: int
    """As in the configuration."""
    min_share: float
    """As in the configuration."""
    max_items: int
    """As in the configuration."""
    tasks: tuple[TaskHeader, ...]
    """The evaluation sets, sorted by name; items are numbered through them in this order."""
    digests: dict[str, str]
    """BLAKE3 of each array's file."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What one document repeats."""

    tasks: tuple[str, ...]
    """Names of the evaluation sets, sorted."""
    items: tuple[int, ...]
    """Numbers of the items, sorted, counted through all tasks of the index."""
    excerpt: str
    """The first n-gram of the document that matches, as the document writes it (in lower case beyond ASCII)."""


@dataclass(frozen=True)
class Index:
    """A loaded index; its arrays are read from mapped files."""

    header: Header
    digest: str
    """BLAKE3 of ``index.json``: equal evaluation sets and configuration give equal digests."""
    bits: NDArray[np.uint8]
    prefixes: Hashes
    hashes: Hashes
    texts: NDArray[np.int32]
    text_items: NDArray[np.int32]
    text_ngrams: NDArray[np.int32]

    @classmethod
    def load(cls, folder: Path) -> Index:
        """Map an index that ``build_index`` wrote.

        Raises:
            UserError: there is none in ``folder``.
            CorruptError: a file is missing or not what was written.
        """
        path = folder / HEADER
        if not path.is_file():
            raise UserError(str(folder), "holds no index of evaluation sets", "build it again")
        try:
            header = Header.model_validate_json(path.read_bytes())
        except ValidationError:
            raise CorruptError(str(path), "is no index header", "delete the folder and build it again") from None
        arrays = []
        for name in ARRAYS:
            file = folder / f"{name}.npy"
            if not file.is_file() or digest_file(file) != header.digests.get(name):
                raise CorruptError(str(file), "is missing or has changed", "delete the folder and build it again")
            arrays.append(np.asarray(np.load(file, mmap_mode="r", allow_pickle=False)))
        return cls(header, digest_file(path), *arrays)

    def hits(self, batch: TextBatch) -> dict[int, Hit]:
        """The documents of a batch that repeat evaluation texts, by their number in the batch.

        A document's answer depends on its own words only, whatever else the batch holds.
        """
        words = batch.plain_words
        if not len(self.hashes) or not len(words):
            return {}
        documents, entries, positions, lengths = self._matches(words)
        if not len(documents):
            return {}
        # Every evaluation text that holds one of a document's distinct matching n-grams.
        upto = np.searchsorted(self.hashes, self.hashes[entries], side="right")
        each = upto - entries
        spread = np.repeat(entries, each) + _counting(each)
        pairs, counts = np.unique(
            np.repeat(documents, each) * len(self.text_items) + self.texts[spread], return_counts=True
        )
        homes, texts = np.divmod(pairs, len(self.text_items))
        ngrams = self.text_ngrams[texts]
        enough = (counts >= np.minimum(ngrams, self.header.min_hits)) & (counts >= self.header.min_share * ngrams)
        homes, texts = homes[enough], texts[enough]
        found = {}
        for document in np.unique(homes):
            items = np.unique(self.text_items[texts[homes == document]])
            mine = np.flatnonzero(documents == document)
            first = mine[np.argmin(positions[mine])]
            excerpt = _excerpt(batch.texts[document], int(positions[first] - words.offsets[document]), lengths[first])
            found[int(document)] = Hit(self._tasks_of(items), tuple(items.tolist()), excerpt)
        return found

    def _matches(self, words: Words) -> tuple[Offsets, Offsets, Offsets, Offsets]:
        """Distinct n-grams of each document that are in the index.

        Returns:
            Four arrays of shape [matches]: document, first entry of the n-gram in ``hashes``, its first position among
            the batch's words, and its length in words.
        """
        prefixes, whole = ngram_hashes(words.hashes, words.offsets, self.header.prefix)
        candidates = np.flatnonzero(whole & _bits_at(self.bits, prefixes))
        candidates = candidates[_find(self.prefixes, prefixes[candidates])[1]]
        homes = np.searchsorted(words.offsets, candidates, side="right") - 1
        room = words.offsets[homes + 1] - candidates
        parts = []
        for length in self.header.lengths:
            fits = room >= length
            at = candidates[fits]
            entries, hit = _find(self.hashes, ngrams_at(words.hashes, at, length))
            parts.append(np.stack([homes[fits][hit], entries[hit], at[hit], np.full(np.count_nonzero(hit), length)]))
        matches = np.concatenate(parts, axis=1).astype(np.int64)
        # Positions ascend within a length, so the first of equals is the earliest.
        _, first = np.unique(matches[0] * len(self.hashes) + matches[1], return_index=True)
        documents, entries, positions, lengths = matches[:, first]
        return documents, entries, positions, lengths

    def _tasks_of(self, items: NDArray[np.int32]) -> tuple[str, ...]:
        ends = np.cumsum([task.items for task in self.header.tasks])
        numbers = np.unique(np.searchsorted(ends, items, side="right"))
        return tuple(self.header.tasks[number].name for number in numbers)


def ngrams_at(hashes: Hashes, positions: Offsets, n: int) -> Hashes:
    """Hash of the ``n`` words from each position on, which must all be there; as ``ngram_hashes`` has it there."""
    words = hashes[positions[:, np.newaxis] + np.arange(n)].reshape(-1)
    every, _ = ngram_hashes(words, np.array([0, len(words)]), n)
    return every[::n]


def filter_slots(prefixes: Hashes, size: int) -> NDArray[np.uint64]:
    """Number of each hash's bit in a filter of ``size`` bytes, a power of two: its upper bits."""
    return prefixes >> np.uint64(64 - 3 - (size.bit_length() - 1))


def _bits_at(bits: NDArray[np.uint8], prefixes: Hashes) -> NDArray[np.bool_]:
    slots = filter_slots(prefixes, len(bits))
    values = bits[(slots >> np.uint64(3)).astype(np.int64)]
    return ((values >> (slots & np.uint64(7)).astype(np.uint8)) & 1).astype(np.bool_)


def _find(ordered: Hashes, sought: Hashes) -> tuple[Offsets, NDArray[np.bool_]]:
    """The first place of each hash in an ordered array that is not empty, and whether it is there."""
    places = np.searchsorted(ordered, sought)
    return places, ordered[np.minimum(places, len(ordered) - 1)] == sought


def _counting(counts: Offsets) -> Offsets:
    """0, 1, … up to each count in turn, behind each other."""
    ends = np.cumsum(counts)
    numbers: Offsets = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
    return numbers


def _excerpt(text: str, position: int, length: int) -> str:
    """The words from ``position`` on, as far as 300 bytes go."""
    data = (text if text.isascii() else text.lower()).encode()
    words = TextBatch([text]).plain_words
    start, end = int(words.starts[position]), int(words.ends[position + length - 1])
    return " ".join(data[start : min(end, start + _EXCERPT_BYTES)].decode(errors="ignore").split())
