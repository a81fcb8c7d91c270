"""The loss for some tokens at a time: that of all logits, value and gradients, also where ZeRO 3 splits the head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import training.chunked_loss as chunked_loss
from ground.errors import UserError
from pipelines.store import TokenStore
from tests.helpers.runs import TINY, run_tiny
from tests.training.conftest import FEW, Finished
from training.chunked_loss import chunk_loss
from training.config import ModelConfig
from training.feed import Rows
from training.model import build_model, causal_loss, training_loss


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven tokens at a time, which divide nothing."""
    monkeypatch.setattr(chunked_loss, "CHUNK_ELEMENTS", 7 * 300)


def build() -> Any:
    config = ModelConfig(init="random", architecture=TINY)
    return build_model(config, vocabulary=300, end_of_document=0, seed=1, checkpointing=False)


def gradients(model: Any, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("apart", [False, True])
def test_value_and_gradients_are_those_of_all_logits(masked: bool, apart: bool) -> None:
    torch.manual_seed(3)
    tokens = torch.randint(0, 300, (3, 16))
    targets = torch.rand(3, 16) < 0.5 if masked else None
    positions = torch.cat([torch.arange(5), torch.arange(11)]).expand(3, 16) if apart else None
    rows, weight = Rows(tokens, targets, positions), 0.125 if masked else None
    model = build()
    each = causal_loss(model, tokens, "none", targets=targets, positions=positions)
    loss = training_loss(model, rows, weight)
    expected = gradients(model, loss)
    chunk_loss(model)
    assert torch.allclose(causal_loss(model, tokens, "none", targets=targets, positions=positions), each, atol=1e-6)
    found = training_loss(model, rows, weight)
    assert found.item() == pytest.approx(loss.item(), rel=1e-6)
    assert torch.allclose(gradients(model, found), expected, rtol=1e-4, atol=1e-7)


def test_no_chunk_sees_more_tokens_than_it_may() -> None:
    model, seen = build(), []
    chunk_loss(model)
    model.get_output_embeddings().register_forward_hook(lambda *call: seen.append(call[2].shape))
    causal_loss(model, torch.randint(0, 300, (1, 16)))
    assert seen == [(7, 300), (7, 300), (2, 300)]


def test_without_targets_the_mean_is_not_a_number() -> None:
    model, tokens = build(), torch.randint(0, 300, (1, 16))
    chunk_loss(model)
    none = torch.zeros(1, 16, dtype=torch.bool)
    assert causal_loss(model, tokens, targets=none).isnan()
    assert causal_loss(model, tokens, "sum", targets=none).item() == 0.0


def test_a_model_that_changes_its_logits_is_refused() -> None:
    model = build()
    model.config.model_type = "gemma2"  # caps them
    with pytest.raises(UserError, match=r"training\.loss: chunked does not know LlamaForCausalLM; use full"):
        chunk_loss(model)


@pytest.mark.parametrize(
    "changes",
    [
        {"zero_stage": 1},
        pytest.param({"zero_stage": 3, "activation_checkpointing": True}, marks=pytest.mark.slow),
    ],
)
def test_a_run_has_the_same_losses(store: TokenStore, few: Finished, tmp_path: Path, changes: dict[str, Any]) -> None:
    reporter, _ = run_tiny(store, tmp_path, **FEW, **changes, loss="chunked")
    for name in ("train/loss", "heldout/med/loss"):
        assert reporter.curve(name) == pytest.approx(few.reporter.curve(name), rel=1e-5)
