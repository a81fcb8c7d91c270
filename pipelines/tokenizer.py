"""Text to token ids: train, save, load and apply a byte-level BPE tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from ground.errors import UserError
from ground.files import canonical_json, digest_bytes, write_atomic

END_OF_TEXT = "<|endoftext|>"
_BYTES = 256
# GPT-2's pattern, but every digit stands alone, so that numbers are spelled the same way wherever they occur.
_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

_MEND = "give a folder that holds tokenizer.json, or the name of a model on the Hugging Face hub"


@dataclass(frozen=True, slots=True)
class LoadedTokenizer:
    """A tokenizer and what curation must know of it."""

    tokenizer: Tokenizer
    eos_token: str
    eos_id: int
    vocabulary: int
    """Largest token id plus one: the least number of rows a model's embedding must have."""
    digest: str
    """BLAKE3 of the tokenizer's JSON text, 32 hex digits; equal for a tokenizer and its saved copy."""


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Train a byte-level BPE whose only special token is ``<|endoftext|>`` (id 0). Equal texts give equal tokenizers.

    Args:
        texts: documents, in any order; the merges depend only on word counts.
        vocabulary: number of tokens wanted, special token and 256 bytes included; fewer if the texts run out of pairs.

    Raises:
        UserError: ``vocabulary`` does not even hold the bytes.
    """
    if vocabulary <= _BYTES:
        field = "curation.train_tokenizer.vocabulary"
        raise UserError(
            field, f"{vocabulary} is too small", f"use at least {_BYTES + 1}: 256 bytes and one special token"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, eos_token: str = END_OF_TEXT) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json``, which ``AutoTokenizer.from_pretrained(folder)`` reads."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": eos_token,
        "pad_token": eos_token,
        "clean_up_tokenization_spaces": False,
    }
    write_atomic(folder / "tokenizer.json", tokenizer.to_str(pretty=True) + "\n")
    write_atomic(folder / "tokenizer_config.json", canonical_json(config))


def load_tokenizer(path_or_name: str, field: str = "curation.tokenizer") -> LoadedTokenizer:
    """Load a tokenizer from a local folder or, by name, from the Hugging Face hub or its cache. Never runs remote code.

    Args:
        path_or_name: folder with ``tokenizer.json`` (or anything ``AutoTokenizer`` reads), or a hub name.
        field: recipe field that holds the value, for the error.

    Raises:
        UserError: there is no such tokenizer, it cannot be read, or it has no end-of-document token.
    """
    folder = Path(path_or_name).expanduser()
    if (folder / "tokenizer.json").is_file():
        tokenizer, eos_token = _from_folder(folder, field)
    elif not folder.is_dir() and _is_path(path_or_name):
        # The hub would only say that this is no legal name.
        raise UserError(field, f"no folder {path_or_name!r}", _MEND)
    else:
        tokenizer, eos_token = _from_transformers(path_or_name, field)
    eos_id = tokenizer.token_to_id(eos_token) if eos_token is not None else None
    if eos_token is None or eos_id is None:
        mend = 'name it in tokenizer_config.json: {"eos_token": "<|endoftext|>"}'
        raise UserError(field, f"the tokenizer {path_or_name!r} has no end-of-document token", mend)
    # A tokenizer.json may ask for padding or truncation; documents must come out whole.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    vocabulary = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    return LoadedTokenizer(tokenizer, eos_token, eos_id, vocabulary, digest_bytes(tokenizer.to_str()))


def encode_batch(tokenizer: Tokenizer, texts: Sequence[str], eos_id: int) -> list[npt.NDArray[np.uint32]]:
    """Encode documents: the tokens of each text and then one end-of-document token; no other special token is added.

    A text that spells a special token (``"<|endoftext|>"``) is encoded as ordinary characters, so that no document can
    end itself. Texts must be valid Unicode (no lone surrogates); the readers see to that.

    Returns:
        One uint32 array of shape (tokens + 1,) a text.
    """
    tokenizer.encode_special_tokens = True
    arrays = []
    for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
        ids = encoding.ids
        ids.append(eos_id)
        arrays.append(np.array(ids, dtype=np.uint32))
    return arrays


def _is_path(path_or_name: str) -> bool:
    beside_others = "/" in path_or_name and Path(path_or_name).parent.is_dir()
    return path_or_name.startswith((".", "/", "~")) or path_or_name.count("/") > 1 or beside_others


def _from_folder(folder: Path, field: str) -> tuple[Tokenizer, str | None]:
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # noqa: BLE001 - tokenizers raises nothing more special
        raise UserError(field, f"cannot read {folder / 'tokenizer.json'} ({error})", "write it anew") from None
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        try:
            token = json.loads((folder / name).read_text(encoding="utf-8")).get("eos_token")
        except FileNotFoundError:
            continue
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(field, f"cannot read {folder / name} ({error})", "write it anew") from None
        content = token.get("content") if isinstance(token, dict) else token
        if isinstance(content, str):
            return tokenizer, content
    return tokenizer, None


def _from_transformers(path_or_name: str, field: str) -> tuple[Tokenizer, str | None]:
    from transformers import AutoTokenizer  # takes seconds to import, and a local tokenizer.json does without

    try:
        loaded: Any = AutoTokenizer.from_pretrained(path_or_name, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(field, f"no tokenizer at {path_or_name!r} ({reason})", _MEND) from None
    backend = getattr(loaded, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise UserError(field, f"{path_or_name!r} has no fast tokenizer", "choose a model that ships tokenizer.json")
    return backend, loaded.eos_token
