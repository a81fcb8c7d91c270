"""Scores of conversations: the order where the answer is known, the same bits in any batch, fields of the data."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ground.errors import UserError
from pipelines.config import CurationConfig
from pipelines.quality import QualityConfig, load_column_scorer, model_digest, train_scorer
from pipelines.quality.conversations import FieldScorer
from pipelines.quality.ifd import IfdScorer
from pipelines.store import TokenStore
from tests.pipelines.test_curate import curate_here

_BASE = Path(__file__).parents[3] / "models" / "tiny-base"


class _Letters:
    """A tokenizer of one token a character."""

    bos_token_id, eos_token_id = None, 0

    def encode(self, text: str, **_: object) -> list[int]:
        return [ord(letter) for letter in text]


class _Copier:
    """A model that finds letters it has seen before nine times as likely, in odds, as any other of 128."""

    def __init__(self) -> None:
        self.longest = 0

    def __call__(self, input_ids: torch.Tensor, logits_to_keep: int) -> SimpleNamespace:
        ids = input_ids[0]
        self.longest = max(self.longest, len(ids))
        seen = torch.stack([torch.bincount(ids[: i + 1], minlength=128) > 0 for i in range(len(ids))])
        return SimpleNamespace(logits=(seen * math.log(9))[None, -logits_to_keep:])


def _chat(*turns: str) -> str:
    roles = ("user", "assistant")
    return json.dumps([{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)])


def _ifd(question: str, answer: str) -> float:
    """The copier's IFD, from the definition: a letter costs log(total) - log(9 if seen), total = 128 + 8 * letters seen."""
    costs = []
    for before in (f"\0User: {question}\n\nAssistant:", "\0"):
        text, cost = before, 0.0
        for letter in f" {answer}":
            cost += math.log(128 + 8 * len(set(text))) - (math.log(9) if letter in text else 0)
            text += letter
        costs.append(cost)
    return math.exp((costs[0] - costs[1]) / (len(answer) + 1))


def test_ifd_is_the_ratio_of_perplexities_and_mismatched_pairs_come_last() -> None:
    pairs = {"helped": ("qwzx", "qwzx"), "half helped": ("qwzx", "qwkv"), "misled": ("qwzxjkvQWZXJKV0123456789", "h")}
    scores = dict(
        zip(pairs, IfdScorer(_Copier(), _Letters(), 512).score([_chat(*p) for p in pairs.values()]), strict=True)
    )
    for name, pair in pairs.items():
        expected = _ifd(*pair)
        assert scores[name] == pytest.approx(-expected if expected < 1 else expected, abs=2e-6)
    assert _ifd(*pairs["helped"]) < _ifd(*pairs["half helped"]) < 1 < _ifd(*pairs["misled"])
    assert sorted(scores, key=scores.__getitem__) == ["half helped", "helped", "misled"]


def test_long_conversations_are_cut_to_what_the_model_takes_and_empty_ones_come_last() -> None:
    model = _Copier()
    scores = IfdScorer(model, _Letters(), 64).score(
        [_chat("q" * 500, "a" * 500, "again", "b"), _chat("only a question"), None]
    )
    assert math.isfinite(scores[0])
    assert model.longest == 64
    assert scores[1:].tolist() == [math.inf, math.inf]


def test_scores_of_a_real_model_are_the_same_bits_in_any_batch_and_any_number_of_threads(tmp_path: Path) -> None:
    config = QualityConfig.model_validate({"method": "ifd", "ifd": {"model": str(_BASE), "max_tokens": 128}})
    train_scorer(config, [], [], tmp_path / "m", end_id=0, vocabulary=4096)
    scorer = load_column_scorer(tmp_path / "m")
    assert scorer is not None
    chats = [
        _chat(f"What is {word}?", f"It is a {word} of the {word}." * (1 + i))
        for i, word in enumerate(["cell", "heart", "bone"])
    ]
    whole = scorer.score(chats)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        alone = np.concatenate([scorer.score([chat]) for chat in reversed(chats)])[::-1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert whole.tobytes() == alone.tobytes()
    assert len(set(whole)) == 3


def test_a_model_folder_does_not_know_where_its_language_model_came_from(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").symlink_to(_BASE)
    digests = set()
    for name, path in (("a", _BASE), ("b", tmp_path / "elsewhere")):
        config = QualityConfig.model_validate({"method": "ifd", "ifd": {"model": str(path)}})
        train_scorer(config, [], [], tmp_path / name, end_id=0, vocabulary=4096)
        digests.add(model_digest(tmp_path / name))
    assert len(digests) == 1


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    config = QualityConfig.model_validate({"method": "ifd", "ifd": {"model": str(tmp_path)}})
    with pytest.raises(UserError, match=r"curation\.quality\.ifd\.model: .* has no \*\.safetensors"):
        train_scorer(config, [], [], tmp_path / "m", end_id=0, vocabulary=4096)


def test_a_method_and_its_section_go_together() -> None:
    for wrong in ({"method": "ifd"}, {"field": {"name": "s"}}, {"method": "field", "ifd": {"model": "m"}}):
        with pytest.raises(ValidationError, match="go together"):
            QualityConfig.model_validate(wrong)
    assert not {"ifd", "field"} & QualityConfig().model_dump().keys()  # an older store stays valid


def test_fields_that_hold_no_number_are_last() -> None:
    texts = ['{"s": 2}', '{"s": "3.5"}', '{"s": "good"}', '{"s": true}', '{"s": NaN}', "{}", None]
    assert FieldScorer("s", higher_is_better=True).score(texts).tolist() == [-2, -3.5, *[math.inf] * 5]
    assert FieldScorer("s", higher_is_better=False).score(texts[:2]).tolist() == [2, 3.5]


def _conversations(folder: Path, **reading: Any) -> dict[str, Any]:
    folder.mkdir(parents=True)
    rows = [
        {
            "id": f"c{i}",
            "deita": (i * 37) % 101,
            "messages": json.loads(_chat(f"Which is {i}?", f"Number {i} of them, {i * 7}.")),
        }
        for i in range(100)
    ]
    (folder / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"role": "domain", "paths": [str(folder / "chat.jsonl")], "messages_field": "messages", "preset": "none"}
    return {"chat": source | {"metadata_fields": ["deita"]} | reading}


def _config(**quality: Any) -> CurationConfig:
    raw = {"train_tokenizer": {"vocabulary": 300}, "heldout_fraction": 0.05, "dedup": None, "quality": quality}
    return CurationConfig.model_validate(raw)


def _ids(store: TokenStore) -> list[str]:
    return [str(name) for name in store.documents("chat")["id"]]


def test_a_store_is_ranked_by_the_field_whatever_the_size_of_the_parts(tmp_path: Path) -> None:
    sources = _conversations(tmp_path / "data")
    config = _config(method="field", field={"name": "deita"})
    stores = [curate_here(tmp_path / str(size), sources, config, split_bytes=size) for size in (1 << 20, 3000)]
    assert len({store.digest for store in stores}) == 1
    order = [int(name[1:]) * 37 % 101 for name in _ids(stores[0])]
    assert order == sorted(order, reverse=True)
    assert len(order) > 80


@pytest.mark.slow
def test_a_store_is_ranked_by_ifd_whatever_the_size_of_the_parts(tmp_path: Path) -> None:
    sources = _conversations(tmp_path / "data")
    config = _config(method="ifd", ifd={"model": str(_BASE)})
    stores = [curate_here(tmp_path / str(size), sources, config, split_bytes=size) for size in (1 << 20, 3000)]
    assert len({store.digest for store in stores}) == 1
    scores = stores[0].documents("chat")["score"]
    assert (np.diff(scores) >= 0).all()
    assert len(set(scores)) > 50


@pytest.mark.parametrize(
    ("reading", "quality", "problem"),
    [
        ({"metadata_fields": []}, {"method": "field", "field": {"name": "deita"}}, "metadata_fields: lacks 'deita'"),
        (
            {"metadata_fields": ["dieta"]},
            {"method": "field", "field": {"name": "dieta"}},
            "no document of source 'chat' has a number",
        ),
        (
            {"messages_field": None, "text_field": "id"},
            {"method": "ifd", "ifd": {"model": str(_BASE)}},
            "messages_field: is absent",
        ),
    ],
)
def test_a_ranking_that_would_rank_nothing_is_refused(
    tmp_path: Path, reading: dict[str, Any], quality: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        curate_here(tmp_path / "c", _conversations(tmp_path / "data", **reading), _config(**quality))
