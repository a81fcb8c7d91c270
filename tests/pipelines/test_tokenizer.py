"""Tokenizer: lossless on any Unicode, special tokens never from text, the same twice, readable by transformers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from ground.errors import UserError
from pipelines.tokenizer import END_OF_TEXT, encode_batch, load_tokenizer, save_tokenizer, train_tokenizer

TEXTS = [f"The patient number {i} has had a fever of {36 + i % 5}.{i % 10} degrees since Monday.\n" for i in range(200)]

TRAIN_IN_A_NEW_PROCESS = """
from tests.pipelines.test_tokenizer import TEXTS
from pipelines.tokenizer import train_tokenizer
import blake3, sys
sys.stdout.write(blake3.blake3(train_tokenizer(TEXTS, 300).to_str().encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, 300)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_any_text_survives_a_round_trip(tokenizer: Tokenizer, texts: list[str]) -> None:
    encoded = encode_batch(tokenizer, texts, 0)
    assert [tokenizer.decode(ids[:-1].tolist(), skip_special_tokens=False) for ids in encoded] == texts
    assert all(ids[-1] == 0 and ids.dtype == np.uint32 and 0 not in ids[:-1] for ids in encoded)


def test_a_text_cannot_spell_the_special_token(tokenizer: Tokenizer) -> None:
    (ids,) = encode_batch(tokenizer, [f"before{END_OF_TEXT}after"], 0)
    assert np.count_nonzero(ids == 0) == 1
    assert tokenizer.decode(ids[:-1].tolist()) == f"before{END_OF_TEXT}after"


def test_empty_text_is_only_its_end(tokenizer: Tokenizer) -> None:
    (ids,) = encode_batch(tokenizer, [""], 0)
    assert ids.tolist() == [0]


def test_digits_stand_alone(tokenizer: Tokenizer) -> None:
    (ids,) = encode_batch(tokenizer, ["36363"], 0)
    assert len(ids) == 6


def test_special_token_is_first_and_vocabulary_is_as_asked(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_to_id(END_OF_TEXT) == 0
    assert tokenizer.get_vocab_size() == 300
    assert train_tokenizer(["one word"], 300).get_vocab_size() < 270  # no more pairs to merge


def test_training_does_not_depend_on_the_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", TRAIN_IN_A_NEW_PROCESS],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_vocabulary_below_the_bytes_is_refused() -> None:
    with pytest.raises(UserError, match=r"curation\.train_tokenizer\.vocabulary: 256 is too small"):
        train_tokenizer(TEXTS, 256)


def test_saved_tokenizer_loads_here_and_in_transformers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    save_tokenizer(tokenizer, tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert (loaded.eos_token, loaded.eos_id, loaded.vocabulary) == (END_OF_TEXT, 0, 300)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.eos_token_id == theirs.pad_token_id == 0
    (ids,) = encode_batch(loaded.tokenizer, [TEXTS[0]], loaded.eos_id)
    assert theirs(TEXTS[0]).input_ids == ids[:-1].tolist()

    save_tokenizer(loaded.tokenizer, tmp_path / "copy", loaded.eos_token)
    copy = load_tokenizer(str(tmp_path / "copy"))
    assert copy.digest == loaded.digest
    assert (tmp_path / "copy/tokenizer.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


def test_padding_and_truncation_of_the_file_are_not_applied(tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_tokenizer(tokenizer, tmp_path)
    limited = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    limited.enable_truncation(4)
    limited.enable_padding(length=9)
    (tmp_path / "tokenizer.json").write_text(limited.to_str())
    loaded = load_tokenizer(str(tmp_path))
    assert [len(ids) for ids in encode_batch(loaded.tokenizer, ["12345678", "1"], 0)] == [9, 2]


def test_end_token_may_be_written_as_an_object(tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_tokenizer(tokenizer, tmp_path)
    config = {"eos_token": {"content": END_OF_TEXT, "lstrip": False}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert load_tokenizer(str(tmp_path)).eos_id == 0


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a/b/c"])
def test_missing_folder_is_one_clear_line(name: str) -> None:
    with pytest.raises(UserError, match=r"^model\.base: no folder .*; give a folder that holds tokenizer\.json"):
        load_tokenizer(name, "model.base")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer.json", "{", "cannot read .*tokenizer.json"),
        ("tokenizer_config.json", "[", "cannot read .*tokenizer_config.json"),
        ("tokenizer_config.json", "[]", "cannot read .*tokenizer_config.json"),
        ("tokenizer_config.json", "{}", "has no end-of-document token"),
        ("tokenizer_config.json", '{"eos_token": "<other>"}', "has no end-of-document token"),
    ],
)
def test_broken_tokenizer_is_one_clear_line(
    tokenizer: Tokenizer, tmp_path: Path, file: str, content: str, message: str
) -> None:
    save_tokenizer(tokenizer, tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(UserError, match=rf"^curation\.tokenizer: .*{message}"):
        load_tokenizer(str(tmp_path))


def test_folder_without_a_tokenizer_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(UserError, match=r"^curation\.tokenizer: no tokenizer at "):
        load_tokenizer(str(tmp_path))
