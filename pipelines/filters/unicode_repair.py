"""Repair of text that was decoded wrongly, and of its white space (ftfy: Speer 2019).

ftfy reads 1.3 MB/s a core. Nearly all text has nothing that it would change, and what it changes lies in single lines, so that
a look for what could need it leaves ftfy a few lines of a few documents.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import ftfy
from ftfy.chardata import CONTROL_CHARS, LIGATURES, WIDTH_MAP

from pipelines.filters.config import UnicodeRepair

_ASCII = bytes(range(0x80))
_CONTROLS = bytes({*range(0x20), 0x7F} - set(b"\t\n\f"))
_ENTITY = re.compile(rb"&#?[0-9A-Za-z]{1,24};")
# Bytes taken for characters of a single-byte encoding make two such characters in a row, or one before a lost space.
_MISREAD = re.compile(rb"[\x80-\xbf][\xc2-\xd3\xe2]|\xc3[\x82\x83] ")
# The upper control characters, line and paragraph separators, and whatever ftfy maps to another character.
_CHANGED = frozenset(
    map(chr, {*range(0x80, 0xA0), 0x2028, 0x2029, *CONTROL_CHARS, *LIGATURES, *WIDTH_MAP} - {*range(0x80)})
)
_BLANK_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True, slots=True)
class UnicodeRepairer:
    """Mends mojibake, ligatures, full-width letters, line ends and control characters; composes letters and accents (NFC).

    Typographic quotes stay: they are no fault. Entities are read only in texts without ``<``, where they are no markup.
    """

    options: UnicodeRepair
    name: str = "repair_unicode"

    def repair(self, texts: Sequence[str]) -> list[str]:
        return [self._repair(text) for text in texts]

    def _repair(self, text: str) -> str:
        data = text.encode()
        unescape = self.options.unescape_html and b"<" not in data
        if _is_suspect(text, data, unescape):
            config = ftfy.TextFixerConfig(unescape_html=unescape, uncurl_quotes=False, explain=False)
            lines = text.replace("\r\n", "\n").split("\n")
            for index, line in enumerate(lines):
                if _is_suspect(line, line.encode(), unescape):
                    lines[index] = ftfy.fix_text(line, config)
            text = "\n".join(lines)
        if self.options.collapse_blank_lines:
            text = _collapse(text)
        return text


def _is_suspect(text: str, data: bytes, unescape: bool) -> bool:
    """Whether ftfy could change the text."""
    if len(data.translate(None, _CONTROLS)) != len(data) or (unescape and b"&" in data and _ENTITY.search(data)):
        return True
    if len(data) == len(text):
        return False
    if _MISREAD.search(data) is not None or not _CHANGED.isdisjoint(data.translate(None, _ASCII).decode()):
        return True
    return not unicodedata.is_normalized("NFC", text)


def _collapse(text: str) -> str:
    if " \n" in text or "\t\n" in text or "\xa0\n" in text:
        text = "\n".join(line.rstrip(" \t\xa0") for line in text.split("\n"))
    if "\n\n\n" in text:
        text = _BLANK_LINES.sub("\n\n", text)
    return text.strip()
