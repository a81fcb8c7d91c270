"""Documents whose bytes were decoded with the wrong encoding, or that were no text at all."""

from __future__ import annotations

import re
from dataclasses import dataclass

# U+FFFD stands where bytes could not be decoded. Tab, newline, form feed and carriage return are the controls of text.
_BROKEN = re.compile("[\ufffd\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class EncodingFilter:
    """Drops when the share of replacement and control characters exceeds ``maximum_share`` (``broken_encoding``)."""

    maximum_share: float
    name: str = "encoding"

    def __call__(self, text: str) -> str | None:
        broken = sum(map(len, _BROKEN.findall(text)))
        return "broken_encoding" if broken > self.maximum_share * len(text) else None
