"""What ``training.attention`` means, and what is refused."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from ground.errors import UserError
from tests.helpers.runs import TINY
from training.chunked_loss import chunks_loss
from training.config import ModelConfig, TrainingConfig
from training.kernels import attention_kernel, choose_kernels
from training.model import build_model


@pytest.fixture
def flash(monkeypatch: pytest.MonkeyPatch) -> None:
    """flash-attn seems to be installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "flash_attn" else None)


@pytest.mark.usefixtures("flash")
@pytest.mark.parametrize(
    ("masking", "gpu", "half", "expected"),
    [
        (True, True, True, "flash_attention_2"),
        (False, True, True, "sdpa"),
        (True, True, False, "sdpa"),
        (True, False, True, "sdpa"),
    ],
)
def test_automatic_attention(masking: bool, gpu: bool, half: bool, expected: str) -> None:
    training = TrainingConfig(document_masking=masking)
    assert attention_kernel(training, gpu=gpu, half=half) == expected
    assert attention_kernel(TrainingConfig(attention="eager"), gpu=gpu, half=half) == "eager"


def test_automatic_attention_without_flash_attn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    asked = TrainingConfig(attention="flash_attention_2")
    assert attention_kernel(TrainingConfig(document_masking=True), gpu=True, half=True) == "sdpa"
    for gpu, half, problem in ((True, True, "needs flash-attn"), (True, False, "in fp32"), (False, True, "on CPU")):
        with pytest.raises(UserError, match=rf"training\.attention: flash_attention_2 .*{problem}"):
            attention_kernel(asked, gpu=gpu, half=half)


def build() -> Any:
    config = ModelConfig(init="random", architecture=TINY)
    return build_model(config, vocabulary=300, end_of_document=0, seed=1, checkpointing=False)


def test_the_model_gets_what_was_chosen() -> None:
    model = build()
    choose_kernels(model, TrainingConfig(attention="eager", loss="chunked"), gpu=False, half=False)
    assert model.config._attn_implementation == "eager"
    assert chunks_loss(model)
    plain = build()
    choose_kernels(plain, TrainingConfig(), gpu=False, half=False)
    assert plain.config._attn_implementation == "sdpa"
    assert not chunks_loss(plain)


def test_a_model_that_changes_its_logits_is_never_chunked_by_itself() -> None:
    model = build()
    model.config.vocab_size, model.config.model_type = 128_256, "gemma2"
    choose_kernels(model, TrainingConfig(), gpu=True, half=True)
    assert not chunks_loss(model)
