"""Words of many documents at once, as arrays: where they start and end, and a 64-bit hash of each.

Filters, near-duplicate detection and decontamination all ask about words and n-grams of words. Here the texts of a batch
stand behind each other in one buffer of UTF-8, and one pass of array operations finds every word of every document.

A word is a run of letters, digits and underscores; an apostrophe between letters and a point or comma between digits belong
to it (``don't``, ``3.5``). Every other visible character is a word of its own, and so is every Chinese character and kana,
since nothing separates them. Beyond ASCII everything counts as a letter but the spaces and signs of the Latin-1 and
general punctuation blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

Bytes = NDArray[np.uint8]
Hashes = NDArray[np.uint64]
Offsets = NDArray[np.int64]

_SPACE, _LETTER, _DIGIT, _SIGN, _INSIDE, _IDEOGRAPH = 0, 1, 2, 3, 4, 5
NGRAM_BASE = np.uint64(0xD6E8FEB86659FD93)
"""Factor by which ``ngram_hashes`` chains the hashes of words."""
_SIZE_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_LONG = 64  # bytes from which a segment is hashed by itself


@dataclass(frozen=True)
class Words:
    """The words of a batch, in order."""

    starts: Offsets
    """[words] first byte in ``TextBatch.data``."""
    ends: Offsets
    """[words] one past the last byte."""
    hashes: Hashes
    """[words] equal words have equal hashes; a collision has probability 2**-64 a pair."""
    is_sign: NDArray[np.bool_]
    """[words] whether the word is one character that is no letter, digit or ideograph."""
    offsets: Offsets
    """[documents + 1] the words of document i are ``offsets[i]:offsets[i + 1]``."""

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def documents(self) -> Offsets:
        """[words] the document each word belongs to."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


class TextBatch:
    """Texts as one buffer of UTF-8, and what filters ask of them, computed once.

    Args:
        texts: valid Unicode.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def encoded(self) -> list[bytes]:
        """Each text in UTF-8."""
        return [text.encode() for text in self.texts]

    @cached_property
    def offsets(self) -> Offsets:
        """[documents + 1] document i is ``data[offsets[i]:offsets[i + 1] - 1]``; a newline stands after each."""
        return np.cumsum([0, *(len(data) + 1 for data in self.encoded)])

    @cached_property
    def data(self) -> Bytes:
        """All texts, each followed by a newline, so that no word or line crosses from one to the next."""
        return np.frombuffer(b"\n".join([*self.encoded, b""]), dtype=np.uint8)

    @cached_property
    def characters(self) -> Offsets:
        """[documents] length of each text in characters."""
        return np.array([len(text) for text in self.texts], dtype=np.int64)

    @cached_property
    def words(self) -> Words:
        """Words as written, signs included."""
        return find_words(self.data, self.offsets)

    @cached_property
    def plain_words(self) -> Words:
        """Words in lower case without signs: what two copies of a text share when case and punctuation differ."""
        if all(map(str.isascii, self.texts)):
            data, offsets = _LOWER[self.data], self.offsets
        else:
            lowered = TextBatch([text.lower() for text in self.texts])
            data, offsets = lowered.data, lowered.offsets
        return find_words(data, offsets, signs=False)


def find_words(data: Bytes, offsets: Offsets, *, signs: bool = True) -> Words:
    """The words of the documents ``data[offsets[i]:offsets[i + 1]]``, each of which ends with a newline.

    Args:
        signs: find words that are signs too.
    """
    kinds = _kinds(data)
    visible = kinds != _SPACE
    joined = (kinds == _LETTER) | (kinds == _DIGIT)
    first = visible.copy()
    first[1:] &= ~((joined[1:] & joined[:-1]) | (kinds[1:] == _INSIDE))
    starts = np.flatnonzero(first)
    last = visible.copy()
    last[:-1] &= first[1:] | ~visible[1:]
    ends = np.flatnonzero(last) + 1
    is_sign = kinds[starts] == _SIGN
    if not signs:
        starts, ends, is_sign = starts[~is_sign], ends[~is_sign], np.zeros(int((~is_sign).sum()), dtype=np.bool_)
    return Words(starts, ends, segment_hashes(data, starts, ends), is_sign, np.searchsorted(starts, offsets))


def visible_bytes(data: Bytes) -> NDArray[np.bool_]:
    """Whether each byte belongs to a character that is no white space."""
    visible: NDArray[np.bool_] = _VISIBLE[data]
    if data.size and data.max() >= 0x80:
        leads = np.flatnonzero((data == 0xC2) | (data == 0xE2) | (data == 0xE3))
        for spaces, length in _wide_spaces(data, leads):
            for k in range(length):
                visible[spaces + k] = False
    return visible


def segment_hashes(data: Bytes, starts: Offsets, ends: Offsets) -> Hashes:
    """Hash of each ``data[start:end]``: of short ones eight bytes at a time for all of them at once, of long ones XXH3.

    Args:
        data: the bytes.
        starts: [segments] first byte of each.
        ends: [segments] one past the last byte of each.
    """
    padded = np.concatenate([data, np.zeros(8, dtype=np.uint8)])
    # Every eight bytes of the buffer as one number, wherever they begin.
    eights: Hashes = np.ndarray((len(data) + 1,), dtype="<u8", buffer=padded, strides=(1,))
    sizes = ends - starts
    hashes = mix((eights[starts] & _FIRST_BYTES[np.minimum(sizes, 8)]) + sizes.astype(np.uint64) * _SIZE_FACTOR)
    rest, read = np.flatnonzero(sizes > 8), 8
    while len(rest) and read < _LONG:
        left = sizes[rest] - read
        more = eights[starts[rest] + read] & _FIRST_BYTES[np.minimum(left, 8)]
        hashes[rest] = mix((hashes[rest] * NGRAM_BASE) ^ more)
        read += 8
        rest = rest[left > 8]
    view = memoryview(data.tobytes())
    for index in rest.tolist():
        hashes[index] = xxh3_64_intdigest(view[starts[index] : ends[index]])
    return hashes


def sort_hashes(hashes: Hashes) -> Offsets:
    """The order that sorts hashes, equal ones by position: ``np.argsort(hashes, kind="stable")``, two to four times faster.

    One sort of plain integers, the upper bits of a hash above the bits of its position, does it; should two different
    hashes agree in all their upper bits, the slow way is taken.
    """
    bits = np.uint64(max(len(hashes) - 1, 1).bit_length())
    packed = (hashes >> bits << bits) | np.arange(len(hashes), dtype=np.uint64)
    packed.sort()
    order: Offsets = (packed & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    in_order = hashes[order]
    if np.any(in_order[1:] < in_order[:-1]):
        return np.argsort(hashes, kind="stable")
    return order


def ngram_hashes(hashes: Hashes, offsets: Offsets, n: int) -> tuple[Hashes, NDArray[np.bool_]]:
    """Hash of the n words from each word on, and whether all of them lie in one document.

    Returns:
        Two arrays of shape [words]; the hash means nothing where the second is false.
    """
    size = len(hashes)
    combined = hashes.copy()
    for k in range(1, min(n, size)):
        combined[: size - k] = combined[: size - k] * NGRAM_BASE + hashes[k:]
    ends = np.repeat(offsets[1:], np.diff(offsets))
    return mix(combined), np.arange(size) + n <= ends


def mix(values: Hashes) -> Hashes:
    """Spread every bit over all others (the finaliser of splitmix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Hashes = values ^ (values >> np.uint64(31))
    return mixed


def _kinds(data: Bytes) -> NDArray[np.uint8]:
    """What each byte is: space, letter, digit, sign, or a later byte of a sign or ideograph."""
    kinds = _KIND[data]
    if data.size and data.max() >= 0x80:
        _mark_beyond_ascii(data, kinds)
    _mark_inner_points(data, kinds)
    return kinds


def _mark_inner_points(data: Bytes, kinds: NDArray[np.uint8]) -> None:
    """An apostrophe between letters and a point or comma between digits are part of the word."""
    for signs, neighbour in (((0x27,), _LETTER), ((0x2E, 0x2C), _DIGIT)):
        for sign in signs:
            at = np.flatnonzero(data[1:-1] == sign) + 1
            inner = at[(kinds[at - 1] == neighbour) & (kinds[at + 1] == neighbour)]
            kinds[inner] = neighbour


def _mark_beyond_ascii(data: Bytes, kinds: NDArray[np.uint8]) -> None:
    """Spaces, signs and ideographs of several bytes; what follows their first byte is ``_INSIDE``."""
    leads = np.flatnonzero(data >= 0xC2)  # later bytes are below 0xC0
    lead, second = data[leads], data[np.minimum(leads + 1, len(data) - 1)]
    third = data[np.minimum(leads + 2, len(data) - 1)]
    latin = leads[(lead == 0xC2) & (second >= 0x80)]
    kinds[latin], kinds[latin + 1] = _SIGN, _INSIDE
    for value in (0xAA, 0xB5, 0xBA):  # feminine and masculine ordinal, micro sign: letters
        letters = leads[(lead == 0xC2) & (second == value)]
        kinds[letters] = kinds[letters + 1] = _LETTER
    punctuation = leads[((lead == 0xE2) & (second >= 0x80) & (second <= 0xAF)) | ((lead == 0xE3) & (second == 0x80))]
    kinds[punctuation], kinds[punctuation + 1], kinds[punctuation + 2] = _SIGN, _INSIDE, _INSIDE
    for spaces, length in _wide_spaces(data, leads):
        for k in range(length):
            kinds[spaces + k] = _SPACE
    ideographs = leads[((lead == 0xE3) & (second >= 0x81)) | ((lead >= 0xE4) & (lead <= 0xE9))]
    kinds[ideographs], kinds[ideographs + 1], kinds[ideographs + 2] = _IDEOGRAPH, _INSIDE, _INSIDE
    curly = leads[(lead == 0xE2) & (second == 0x80) & (third == 0x99)]  # the typographic apostrophe
    curly = curly[(curly > 0) & (curly + 3 < len(data))]
    inner = curly[(kinds[curly - 1] == _LETTER) & (kinds[curly + 3] == _LETTER)]
    kinds[inner] = kinds[inner + 1] = kinds[inner + 2] = _LETTER


def _wide_spaces(data: Bytes, leads: Offsets) -> list[tuple[Offsets, int]]:
    """First byte of each space of several bytes among ``leads``, and how many bytes it has."""
    lead, second = data[leads], data[np.minimum(leads + 1, len(data) - 1)]
    third = data[np.minimum(leads + 2, len(data) - 1)]
    latin = (lead == 0xC2) & ((second == 0xA0) | (second == 0x85))
    thin = (lead == 0xE2) & (second == 0x80) & ((third <= 0x8A) | (third == 0xA8) | (third == 0xA9) | (third == 0xAF))
    mathematical = (lead == 0xE2) & (second == 0x81) & (third == 0x9F)
    wide = (lead == 0xE3) & (second == 0x80) & (third == 0x80)
    return [(leads[latin], 2), (leads[thin | mathematical | wide], 3)]


def _kind_table() -> NDArray[np.uint8]:
    table = np.full(256, _SIGN, dtype=np.uint8)
    table[:33] = _SPACE
    table[0x7F] = _SPACE
    for byte in range(0x80):
        character = chr(byte)
        if character.isalpha() or character == "_":
            table[byte] = _LETTER
        elif character.isdigit():
            table[byte] = _DIGIT
    table[0x80:] = _LETTER
    return table


_KIND = _kind_table()
_VISIBLE = _KIND != _SPACE
_FIRST_BYTES = np.array([(1 << 8 * size) - 1 for size in range(9)], dtype=np.uint64)
_LOWER = np.array([ord(chr(byte).lower()) if byte < 0x80 else byte for byte in range(256)], dtype=np.uint8)
