"""Words as the published web filters count them, found for a whole batch at once.

The limits of Gopher, C4 and FineWeb were set, and are applied by others, on the words of a linguistic tokenizer (NLTK, later
spaCy), which keeps ``p<0.05``, ``1/2`` and ``10-20`` whole, and splits punctuation at the edges of what white space separates,
hyphens between letters, and contractions. Shares of words with a letter lie near their limits in scientific prose, so that a
simpler word finder decides one document in ten otherwise. The rules here are spaCy's for English without its long tail of
exceptions (emoticons, rare abbreviations and contractions); the benchmark ``curate_vs_datatrove`` holds both against each
other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipelines.filters.web_signs import INFIX, LOWER, PREFIX, SUFFIX, UPPER, Signs, find_signs, hashes_of, letter_bytes
from pipelines.words import Bytes, Hashes, Offsets, segment_hashes

Mask = NDArray[np.bool_]

# Abbreviations that keep their final point; single letters do so too.
_ABBREVIATIONS = hashes_of(
    """e.g. E.g. i.e. I.e. vs. v.s. Dr. Mr. Mrs. Ms. St. Prof. Ph.D. Jr. Sr. Inc. Ltd. Co. co. Corp. Bros. Gov. Gen. Rep.
    Rev. Sen. Adm. Messrs. D.C. N.C. N.Y. N.J. a.m. p.m. Jan. Feb. Mar. Apr. Jun. Jul. Aug. Sep. Sept. Oct. Nov. Dec.
    Calif. Colo. Conn. Fla. Ga. Ill. Ind. Ky. La. Mass. Md. Mich. Minn. Miss. Mo. Mont. Okla. Ore. Pa. Tenn. Va. Wash.
    Wis."""
)
# Units that come off the number before them.
_UNITS = hashes_of(
    """km m dm cm mm ha nm yd in ft kg g mg t lb oz mph hPa Pa mbar mb MB kb KB gb GB tb TB T G M K am pm µg µm"""
)
_CONTRACTIONS = hashes_of("'s 'S 'm 'd 'll 're 've ’s ’S ’m ’d ’ll ’re ’ve")


@dataclass(frozen=True)
class WebWords:
    """The words of a batch, in order, punctuation included."""

    starts: Offsets
    """[words] first byte in ``TextBatch.data``."""
    ends: Offsets
    """[words] one past the last byte."""
    hashes: Hashes
    """[words] equal words have equal hashes."""
    has_letter: Mask
    """[words] whether a letter is in the word."""
    is_punctuation: Mask
    """[words] whether the word is nothing but punctuation."""
    offsets: Offsets
    """[documents + 1] the words of document i are ``offsets[i]:offsets[i + 1]``."""

    @cached_property
    def documents(self) -> Offsets:
        """[words] the document each word belongs to."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    @cached_property
    def counts(self) -> Offsets:
        """[documents] words in each."""
        return np.diff(self.offsets)


def find_web_words(data: Bytes, offsets: Offsets, visible: Mask, chunks: tuple[Offsets, Offsets]) -> WebWords:
    """The words of the documents ``data[offsets[i]:offsets[i + 1]]``, each of which ends with a newline."""
    first = np.zeros(len(data) + 1, dtype=np.bool_)
    first[chunks[0]] = True
    letter = letter_bytes(data)
    punctuation = _split_signs(data, visible, letter, first)
    first = first[: len(data)]
    _split_units(data, letter, first, visible)
    starts = np.flatnonzero(first)
    last = visible.copy()
    last[:-1] &= first[1:] | ~visible[1:]
    ends = np.flatnonzero(last) + 1
    has_letter = letter[starts]
    is_punctuation = np.zeros(len(starts), dtype=np.bool_)
    unsure = np.flatnonzero(~has_letter)
    longer = unsure[ends[unsure] - starts[unsure] > 1]
    # Only words that begin with no letter and have several bytes must be looked through.
    letters, others = _count_in(letter, punctuation, starts[longer], ends[longer])
    has_letter[longer] = letters > 0
    is_punctuation[unsure] = punctuation[starts[unsure]]
    is_punctuation[longer] = others == 0
    return WebWords(
        starts,
        ends,
        segment_hashes(data, starts, ends),
        has_letter,
        is_punctuation,
        np.searchsorted(starts, offsets),
    )


def _count_in(letter: Mask, punctuation: Mask, starts: Offsets, ends: Offsets) -> tuple[Offsets, Offsets]:
    """Bytes of letters, and bytes of anything but punctuation, between each start and end."""
    if not len(starts):
        return starts, starts
    sizes = ends - starts
    heads = np.cumsum(sizes) - sizes
    at = np.arange(int(sizes.sum())) + np.repeat(starts - heads, sizes)
    counts = [np.add.reduceat(mask.astype(np.int64), heads) for mask in (letter[at], ~punctuation[at])]
    return counts[0], counts[1]


def _split_signs(data: Bytes, visible: Mask, letter: Mask, first: Mask) -> Mask:
    """Mark in ``first`` where words begin because of signs. Returns which bytes are punctuation."""
    signs = find_signs(data)
    punctuation = np.zeros(len(data), dtype=np.bool_)
    for k in range(3):
        wide = signs.is_punctuation & (signs.length > k)
        punctuation[signs.at[wide] + k] = True
    if not len(signs.at):
        return punctuation
    at, after, code = signs.at, signs.at + signs.length, signs.code
    # Before the first byte stands the last one, a newline.
    before, following = data[at - 1], data[after]
    is_point = code == ord(".")
    ellipsis = is_point & ((before == ord(".")) | (following == ord(".")))
    edge = _at_edges(data, signs, ellipsis, first[at], visible)
    points = edge & is_point & ~ellipsis  # whether these stand alone depends on the word before them
    inside = _inside(data, signs, letter)
    inside[_in_addresses(data, at, visible)] = False
    alone = (edge & ~points) | ellipsis | inside
    row = ellipsis | (inside & (code == ord("-")))  # a row of these is one word
    first[at[alone & ~(row & (before == code))]] = True
    _begin(first, after[alone & ~(row & (following == code))], visible)
    _split_contractions(data, letter, at, code, first)
    _split_points(data, letter, at[points], visible, first)
    return punctuation


def _at_edges(data: Bytes, signs: Signs, ellipsis: Mask, starts_chunk: Mask, visible: Mask) -> Mask:
    """[signs] whether nothing but signs that come off stands between the sign and the white space on one side."""
    at, after, code = signs.at, signs.at + signs.length, signs.code
    before, following = data[at - 1], data[after]
    prefix = (signs.use & PREFIX) > 0
    prefix &= ~((code == ord("+")) & _is_digit(following))
    prefix |= ellipsis
    suffix = (signs.use & SUFFIX) > 0
    suffix &= ~(_is(code, "%+$") & ~_is_digit(before))
    # The point of an initial ("J.") stays with it, and one after white space begins a word.
    initial = UPPER[before] & ~UPPER[data[at - 2]]
    suffix &= ellipsis | (code != ord(".")) | ~(initial | ~visible[at - 1])
    touches = at[1:] == after[:-1]
    head = _reached(prefix, touches, starts_chunk)
    tail = _reached(suffix[::-1], touches[::-1], ~visible[after][::-1])[::-1]
    is_edge: Mask = head | tail
    return is_edge


def _inside(data: Bytes, signs: Signs, letter: Mask) -> Mask:
    """[signs] whether what stands on both sides of the sign makes it split a word."""
    at, after, code = signs.at, signs.at + signs.length, signs.code
    before, following = data[at - 1], data[after]
    letter_before, letter_after = letter[at - 1], letter[after]
    digit_before, digit_after = _is_digit(before), _is_digit(following)
    closes, opens = LOWER[before] | _is(before, "\"'"), UPPER[following] | _is(following, "\"'")
    joins = (letter_before | digit_before) & letter_after
    inside = (code == ord(",")) & letter_before & letter_after
    inside |= _is(code, "-~:<>=/") & joins
    inside |= _is(code, "+-*^") & digit_before & (digit_after | (following == ord("-")))
    inside |= (code == ord(".")) & closes & opens
    inside |= (code == 0) & ((signs.use & INFIX) > 0) & (signs.is_icon | joins)
    inside |= _dashes(letter, at, code)
    is_inside: Mask = inside
    return is_inside


def _reached(linked: Mask, touches: Mask, starts: Mask) -> Mask:
    """Whether an unbroken row of linked signs leads from a sign that ``starts`` to this one.

    Args:
        linked: [signs] whether the sign can be part of such a row.
        touches: [signs - 1] whether a sign and the next are neighbours.
        starts: [signs] whether a row may begin here.
    """
    goes_on = np.concatenate([[False], touches & linked[1:] & linked[:-1]])
    heads = np.maximum.accumulate(np.where(goes_on, 0, np.arange(len(linked))))
    reached: Mask = starts[heads] & linked
    return reached


def _begin(first: Mask, positions: Offsets, visible: Mask) -> None:
    first[positions[visible[np.minimum(positions, len(visible) - 1)]]] = True


def _dashes(letter: Mask, at: Offsets, code: NDArray[np.uint8]) -> Mask:
    """Two or three hyphens between letters."""
    hyphen: Mask = code == ord("-")
    if not hyphen.any():
        return hyphen
    touches = np.concatenate([[False], (at[1:] == at[:-1] + 1) & hyphen[1:] & hyphen[:-1]])
    heads = np.flatnonzero(hyphen & ~touches)
    sizes = np.diff(np.append(np.flatnonzero(~touches[hyphen]), int(hyphen.sum())))
    fits = (sizes >= 2) & (sizes <= 3) & letter[at[heads] - 1] & letter[at[heads] + sizes]
    dashes = np.zeros(len(at), dtype=np.bool_)
    dashes[hyphen] = np.repeat(fits, sizes)
    return dashes


def _in_addresses(data: Bytes, at: Offsets, visible: Mask) -> Offsets:
    """Signs within web addresses, which stay whole."""
    slashes = np.flatnonzero((data[:-2] == ord(":")) & (data[1:-1] == ord("/")) & (data[2:] == ord("/")))
    found: list[Offsets] = []
    for slash in slashes.tolist():
        space = np.flatnonzero(~visible[slash : slash + 2000])
        end = slash + (int(space[0]) if len(space) else 2000)
        low, high = np.searchsorted(at, [slash, end])
        found.append(np.arange(low, high))
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _split_contractions(data: Bytes, letter: Mask, at: Offsets, code: NDArray[np.uint8], first: Mask) -> None:
    """``it's`` is ``it`` and ``'s``, ``don't`` is ``do`` and ``n't``."""
    apostrophes = at[code == ord("'")]
    curly = at[(code == 0) & (data[at] == 0xE2)]
    curly = curly[(data[curly + 1] == 0x80) & (data[curly + 2] == 0x99)]
    for marks, width in ((apostrophes, 1), (curly, 3)):
        inner = marks[letter[marks - 1] & letter[marks + width]]
        ends = inner + width
        for _ in range(3):
            more = letter[ends]
            ends = ends + more
        whole = ~letter[ends]
        inner, ends = inner[whole], ends[whole]
        splits = np.isin(segment_hashes(data, inner, ends), _CONTRACTIONS)
        first[inner[splits]] = True
        negations = inner[
            (data[inner - 1] == ord("n")) & (data[inner + width] == ord("t")) & (ends == inner + width + 1)
        ]
        first[negations - 1] = True


def _split_points(data: Bytes, letter: Mask, points: Offsets, visible: Mask, first: Mask) -> None:
    """A point at the end of a word is a word of its own, unless it belongs to an abbreviation."""
    if not len(points):
        return
    known = np.flatnonzero(first)
    starts = known[np.searchsorted(known, points, side="right") - 1]
    keeps = np.isin(segment_hashes(data, starts, points + 1), _ABBREVIATIONS)
    keeps |= (points - starts == 1) & letter[starts]
    points = points[~keeps]
    first[points] = True
    _begin(first, points + 1, visible)


def _split_units(data: Bytes, letter: Mask, first: Mask, visible: Mask) -> None:
    """``10mg`` is ``10`` and ``mg``."""
    digits = _is_digit(data)
    units = np.flatnonzero(digits[:-1] & letter[1:]) + 1
    if not len(units):
        return
    ends = units.copy()
    for _ in range(4):
        goes_on = visible[ends] & ~first[ends] & (ends - units < 5)
        ends = ends + goes_on
    whole = ~visible[ends] | first[ends]
    units, ends = units[whole], ends[whole]
    first[units[np.isin(segment_hashes(data, units, ends), _UNITS)]] = True


def _is_digit(data: Bytes) -> Mask:
    return (data - np.uint8(0x30)) < 10


def _is(code: NDArray[np.uint8], signs: str) -> Mask:
    return np.isin(code, np.frombuffer(signs.encode(), dtype=np.uint8))
