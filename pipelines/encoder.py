"""Texts to token ids, fast: `gigatoken` where it gives the same ids as `tokenizers`, else `tokenizers` itself.

gigatoken encodes byte-level BPE at some 100 MB/s per core against 2 to 4. It is used only after it has agreed on a set of
probes, knows only some pre-tokenisers (those of GPT-2, Llama 3, Qwen and their kin), and is checked on a part of the
documents as they pass, so that a store holds the same tokens whichever of the two encoded it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ground.errors import UserError
from pipelines.tokenizer import LoadedTokenizer, encode_batch

Tokens = npt.NDArray[np.uint32]

_CHECKED_OF = 512  # documents: checking one of them costs a tenth of the time that is won
_CHECKED_CHARACTERS = 20_000
_FRESH_AFTER = (
    64 << 20
)  # characters encoded: gigatoken keeps every word it has met, so a worker starts over now and then

_PROBES = (
    "",
    " ",
    "The patient (aged 54) wasn't given 3.5 mg/kg; she'd refused.",
    "  leading\n\n\n  and   trailing  \t\r\n ",
    "naïve café — “quoted” … ½ µg/mL ≥ 37.5 °C",
    "日本語のテキスト 한국어 मानव עברית العربية ไทย",
    "\U0001f600\U0001f468‍\U0001f469‍\U0001f467 e\u0301 \ufeff \u200b \u2028 \u00a0 \ufffd",
    "\x00\x01\x7f control",
    "https://example.org/a?b=c&d=1#e   x=y_z; for(i=0;i<10;++i){}",
    "<|endoftext|> <s> </s> [INST] <|im_start|> <unk>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "0123456789 1,234,567.89 12:30 50% 10^-6",
)


class Encoder:
    """Encodes documents: the tokens of each text and then one end-of-document token (as ``encode_batch``).

    Args:
        loaded: the tokenizer.
        fast: whether gigatoken may be used.
    """

    def __init__(self, loaded: LoadedTokenizer, *, fast: bool = True) -> None:
        self._loaded = loaded
        self._json = _without_specials(loaded) if fast else ""
        self._fast = _agreeing(self._json, loaded) if fast else None
        self._encoded_characters = 0
        self._since_check = 0

    @property
    def is_fast(self) -> bool:
        """Whether gigatoken serves this tokenizer."""
        return self._fast is not None

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """One uint32 array of shape [tokens + 1] a text.

        Raises:
            UserError: the two libraries disagree on a document.
        """
        if self._fast is None or not texts:
            return encode_batch(self._loaded.tokenizer, texts, self._loaded.eos_id)
        encoded = _encode(self._fast, texts, self._loaded.eos_id)
        self._check(texts, encoded)
        self._encoded_characters += sum(map(len, texts))
        if self._encoded_characters > _FRESH_AFTER:
            self._fast, self._encoded_characters = _load(self._json), 0
        return encoded

    def _check(self, texts: Sequence[str], encoded: Sequence[Tokens]) -> None:
        """Compare every so-manieth document, unless it is long: a few long ones would cost more than all others."""
        for index in range(_CHECKED_OF - 1 - self._since_check, len(texts), _CHECKED_OF):
            if len(texts[index]) > _CHECKED_CHARACTERS:
                continue
            (expected,) = encode_batch(self._loaded.tokenizer, [texts[index]], self._loaded.eos_id)
            if not np.array_equal(expected, encoded[index]):
                raise UserError(
                    "curation.fast_tokenizer",
                    f"gigatoken encodes {texts[index][:60]!r} differently from the tokenizer's own library",
                    "set it to false",
                )
        self._since_check = (self._since_check + len(texts)) % _CHECKED_OF


def _without_specials(loaded: LoadedTokenizer) -> str:
    """The tokenizer's JSON without what would act on text that spells a special token, or add tokens of its own."""
    content = json.loads(loaded.tokenizer.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if not token["special"]]
    content["post_processor"] = None
    return json.dumps(content)


def _agreeing(text: str, loaded: LoadedTokenizer) -> Any:
    """A gigatoken tokenizer, or None where it cannot read this one or differs on a probe."""
    try:
        fast = _load(text)
        encoded = _encode(fast, _PROBES, loaded.eos_id)
    except (ValueError, RuntimeError, KeyError, TypeError):  # what it raises for kinds it does not know
        return None
    expected = encode_batch(loaded.tokenizer, _PROBES, loaded.eos_id)
    return fast if all(map(np.array_equal, encoded, expected)) else None


def _load(text: str) -> Any:
    from gigatoken.gigatoken_rs import load_hf_json  # its own front would import awkward's slow parts at once

    return load_hf_json(text)


def _encode(fast: Any, texts: Sequence[str], eos_id: int) -> list[Tokens]:
    layout = fast.encode_batch(list(texts), parallel=False).layout
    offsets = np.asarray(layout.offsets, dtype=np.int64)
    content = np.asarray(layout.content.data, dtype=np.uint32)
    offsets = offsets - offsets[0] if len(content) == offsets[-1] - offsets[0] else offsets
    with_ends = np.insert(content[offsets[0] : offsets[-1]], offsets[1:] - offsets[0], np.uint32(eos_id))
    ends = offsets - offsets[0] + np.arange(len(offsets))
    return [with_ends[a:b] for a, b in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]
