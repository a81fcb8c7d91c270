"""Documents whose bytes were decoded with the wrong encoding, or that were no text at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.filters.batch import FilterBatch

# U+FFFD stands where bytes could not be decoded. Tab, newline, form feed and carriage return are the controls of text.
_CONTROLS = bytes({*range(0x20), 0x7F} - set(b"\t\n\f\r"))
_UPPER_CONTROLS = re.compile("[\x80-\x9f]")
_REPLACEMENT = "\ufffd".encode()


@dataclass(frozen=True, slots=True)
class EncodingFilter:
    """Drops when the share of replacement and control characters exceeds ``maximum_share`` (``broken_encoding``)."""

    maximum_share: float
    name: str = "encoding"

    def reasons(self, batch: FilterBatch) -> Sequence[str]:
        broken = map(_count_broken, batch.texts, batch.encoded)
        limits = (self.maximum_share * len(text) for text in batch.texts)
        return ["broken_encoding" if count > limit else "" for count, limit in zip(broken, limits, strict=True)]


def _count_broken(text: str, data: bytes) -> int:
    """Deleting bytes is the fastest way to count them."""
    count = len(data) - len(data.translate(None, _CONTROLS))
    if len(data) != len(text):
        count += data.count(_REPLACEMENT)
        if b"\xc2" in data:
            count += len(_UPPER_CONTROLS.findall(text))
    return count
