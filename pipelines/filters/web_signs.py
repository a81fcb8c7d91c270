"""The signs of ``web_words``: which come off the front of a word, off its end, or split it in the middle."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.words import Bytes, Hashes, Offsets, segment_hashes

PREFIX, SUFFIX, INFIX = 1, 2, 4
_BOTH = PREFIX | SUFFIX
# First bytes of signs that UTF-8 writes in two, three and four bytes.
_WIDTHS = {0xC2: 2, 0xE2: 3, 0xE3: 3, 0xEF: 3, 0xF0: 4}
_WIDE_SIGNS = "«»´·¿¡“”„‘’‚。、「」『』《》【】〈〉（），！？：；～"
_WIDE_DASHES = "–—"
_WIDE_PREFIXES = "§£¥"
_CURRENCIES = ("₠", "₿")
_ICONS = (("\u2100", "\u214f"), ("\u2195", "\u21cd"), ("\u2300", "\u27bf"), ("\U0001f000", "\U0001faff"))
_SINGLE_ICONS = "¦©®"


@dataclass(frozen=True)
class Signs:
    """The signs of a buffer that may split words, in order."""

    at: Offsets
    """[signs] first byte."""
    length: Offsets
    """[signs] bytes."""
    code: NDArray[np.uint8]
    """[signs] the byte of an ASCII sign, 0 for any other."""
    use: NDArray[np.uint8]
    """[signs] ``PREFIX``, ``SUFFIX`` and ``INFIX``, or-ed together."""
    is_icon: NDArray[np.bool_]
    """[signs] whether it splits wherever it stands."""
    is_punctuation: NDArray[np.bool_]
    """[signs] whether a word of such signs alone is no word."""


def find_signs(data: Bytes) -> Signs:
    """Every sign in ``data`` that could split a word."""
    at = np.flatnonzero(_CANDIDATE[data])
    code = data[at]
    use, length = _USE[code], np.ones(len(at), dtype=np.int64)
    is_icon, is_punctuation = np.zeros(len(at), dtype=np.bool_), np.ones(len(at), dtype=np.bool_)
    wide = np.flatnonzero(code >= 0x80)
    if len(wide):
        starts = at[wide]
        widths = _WIDTH[code[wide]]
        point = np.zeros(len(wide), dtype=np.int64)
        for k in range(4):
            byte = data[np.minimum(starts + k, len(data) - 1)].astype(np.int64)
            point = np.where(k < widths, point << 8 | byte, point)
        place = np.minimum(np.searchsorted(_WIDE_POINTS, point), len(_WIDE_POINTS) - 1)
        known = _WIDE_POINTS[place] == point
        icons = np.zeros(len(wide), dtype=np.bool_)
        for low, high in _ICON_RANGES:
            icons |= (low <= point) & (point <= high)
        use[wide] = np.where(known, _WIDE_USE[place], np.where(icons, _BOTH | INFIX, 0))
        length[wide] = widths
        is_icon[wide] = icons
        is_punctuation[wide] = known & _WIDE_IS_PUNCTUATION[place]
        keep = use > 0
        at, code, use, length = at[keep], code[keep], use[keep], length[keep]
        is_icon, is_punctuation = is_icon[keep], is_punctuation[keep]
        code = np.where(code < 0x80, code, 0).astype(np.uint8)
    return Signs(at, length, code, use, is_icon, is_punctuation)


def letter_bytes(data: Bytes) -> NDArray[np.bool_]:
    """Whether each byte belongs to a letter; beyond ASCII, to anything but the signs of the common blocks."""
    letters: NDArray[np.bool_] = LETTER[data]
    at = np.flatnonzero(_SIGN_LEAD[data])
    at = at[at + 2 < len(data)]
    lead, second, third = data[at], data[at + 1], data[at + 2]
    latin = (lead == 0xC2) & (second != 0xAA) & (second != 0xB5) & (second != 0xBA)  # two ordinals and the micro sign
    latin |= (lead == 0xC3) & ((second == 0x97) | (second == 0xB7))  # multiplication and division signs
    general = ((lead == 0xE2) & (second < 0xB0)) | ((lead == 0xE3) & (second == 0x80))
    general |= (lead == 0xEF) & (second == 0xBC) & (third < 0xA1)
    emoji = (lead == 0xF0) & (second == 0x9F)
    for signs, width in ((at[latin], 2), (at[general], 3), (at[emoji], 4)):
        for k in range(width):
            letters[signs + k] = False
    return letters


def hashes_of(words: str) -> Hashes:
    """The hashes that the words of a list, white space between them, have in ``WebWords``."""
    encoded = [word.encode() for word in words.split()]
    data = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    ends = np.cumsum([len(word) for word in encoded])
    return segment_hashes(data, ends - [len(word) for word in encoded], ends)


def _number(character: str) -> int:
    return int.from_bytes(character.encode(), "big")


def _uses() -> NDArray[np.uint8]:
    table = np.zeros(256, dtype=np.uint8)
    for signs, use in (
        (",:;!?()[]{}<>_#*&'\"`%$+", _BOTH),
        ("=", PREFIX),
        (".", SUFFIX),
        (",-~:<>=/+*^.", INFIX),
    ):
        for sign in signs.encode():
            table[sign] |= use
    for sign in b"@\\|":  # punctuation that never splits
        table[sign] |= 8
    return table


def _wide() -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.bool_]]:
    uses = dict.fromkeys(_WIDE_SIGNS, _BOTH) | dict.fromkeys(_WIDE_DASHES, _BOTH | INFIX) | {"…": _BOTH | INFIX}
    punctuation = set(uses) - set("¿¡")
    uses |= dict.fromkeys(_WIDE_PREFIXES, PREFIX) | dict.fromkeys(_SINGLE_ICONS, _BOTH | INFIX)
    uses |= {chr(point): PREFIX for point in range(ord(_CURRENCIES[0]), ord(_CURRENCIES[1]) + 1)}
    by_number = sorted((_number(sign), use, sign in punctuation) for sign, use in uses.items())
    numbers, flags, marks = zip(*by_number, strict=True)
    return np.array(numbers), np.array(flags, dtype=np.uint8), np.array(marks)


def _table(members: Iterable[int]) -> NDArray[np.bool_]:
    table = np.zeros(256, dtype=np.bool_)
    table[list(members)] = True
    return table


LOWER = _table([*b"abcdefghijklmnopqrstuvwxyz", *range(0x80, 0x100)])
UPPER = _table(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
LETTER = LOWER | UPPER
_SIGN_LEAD = _table([0xC2, 0xC3, 0xE2, 0xE3, 0xEF, 0xF0])
_USE = _uses()
_WIDTH = np.array([_WIDTHS.get(byte, 1) for byte in range(256)])
_CANDIDATE = (_USE > 0) | (_WIDTH > 1)
_WIDE_POINTS, _WIDE_USE, _WIDE_IS_PUNCTUATION = _wide()
_ICON_RANGES = [(_number(low), _number(high)) for low, high in _ICONS]
