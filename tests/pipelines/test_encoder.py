"""The fast encoder gives the tokens of the tokenizer's own library, or stands back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from ground.errors import UserError
from pipelines import encoder as encoder_module
from pipelines.encoder import Encoder
from pipelines.tokenizer import (
    END_OF_TEXT,
    LoadedTokenizer,
    encode_batch,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
)

TEXTS = [
    "The patient was given 3.5 mg of the drug; the fever didn't return.",
    f"a text that spells {END_OF_TEXT} and goes on",
    "naïve café 日本語 \U0001f600\n\n  x",
    "",
]


def gpt2_like(folder: Path) -> LoadedTokenizer:
    """A small byte-level BPE with GPT-2's own pattern, which the fast library knows."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 5, trainer)
    save_tokenizer(tokenizer, folder)
    return load_tokenizer(str(folder))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedTokenizer:
    return gpt2_like(tmp_path_factory.mktemp("tokenizer"))


def same(encoder: Encoder, loaded: LoadedTokenizer, texts: list[str]) -> None:
    expected = encode_batch(loaded.tokenizer, texts, loaded.eos_id)
    found = encoder(texts)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == np.uint32
        np.testing.assert_array_equal(a, b)


def test_fast_and_plain_encoding_agree(loaded: LoadedTokenizer) -> None:
    fast, plain = Encoder(loaded), Encoder(loaded, fast=False)
    assert fast.is_fast and not plain.is_fast
    same(fast, loaded, TEXTS)
    same(plain, loaded, TEXTS)
    same(fast, loaded, [])


@given(texts=st.lists(st.text(max_size=80), max_size=5))
def test_any_text_has_the_same_tokens(loaded: LoadedTokenizer, texts: list[str]) -> None:
    same(Encoder(loaded), loaded, texts)


def test_an_unknown_pattern_is_left_to_the_tokenizers_library(tmp_path: Path) -> None:
    save_tokenizer(train_tokenizer(TEXTS, 300), tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    encoder = Encoder(loaded)
    assert not encoder.is_fast
    same(encoder, loaded, TEXTS)


def test_added_tokens_that_are_not_special_are_found_by_both(tmp_path: Path) -> None:
    loaded = gpt2_like(tmp_path / "plain")
    loaded.tokenizer.add_tokens([AddedToken("mg", special=False)])
    save_tokenizer(loaded.tokenizer, tmp_path / "more")
    more = load_tokenizer(str(tmp_path / "more"))
    same(Encoder(more), more, TEXTS)


def test_starting_over_changes_nothing(loaded: LoadedTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "_FRESH_AFTER", 10)
    encoder = Encoder(loaded)
    for _ in range(3):
        same(encoder, loaded, TEXTS)


def test_a_disagreement_stops_the_curation(loaded: LoadedTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "_CHECKED_OF", 2)
    encoder = Encoder(loaded)
    true = encoder_module._encode

    def wrong(fast: object, texts: list[str], eos_id: int) -> list[np.ndarray]:  # type: ignore[type-arg]
        return [ids[::-1] for ids in true(fast, texts, eos_id)]

    monkeypatch.setattr(encoder_module, "_encode", wrong)
    with pytest.raises(UserError, match=r"curation\.fast_tokenizer: gigatoken encodes 'a text that spells"):
        encoder(TEXTS)
