"""The exported folder is a plain Hugging Face model with the run's last numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipelines.store import TokenStore
from tests.helpers.runs import TINY, run_tiny
from tests.training.conftest import FEW, Finished
from training.config import ModelConfig
from training.model import build_model


def heldout_loss(model: torch.nn.Module, store: TokenStore, source: str) -> float:
    """The job's held-out loss, computed by transformers alone."""
    windows = torch.stack([torch.from_numpy(store.window(source, i, 64, "heldout")) for i in range(8)])
    with torch.no_grad():
        return float(model(input_ids=windows, labels=windows).loss)


@pytest.mark.parametrize("source", ["med", "wiki"])
def test_loss_at_step_0_is_that_of_the_untrained_model(store: TokenStore, finished: Finished, source: str) -> None:
    config = ModelConfig(init="random", architecture=TINY)
    model = build_model(config, vocabulary=300, end_of_document=0, seed=7, checkpointing=False)
    expected = finished.reporter.curve(f"heldout/{source}/loss")[0]
    assert heldout_loss(model.eval(), store, source) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("source", ["med", "wiki"])
def test_anyone_can_load_it_and_gets_the_final_loss(store: TokenStore, finished: Finished, source: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(finished.outcome.model)
    expected = finished.reporter.curve(f"heldout/{source}/loss")[-1]
    assert heldout_loss(model.eval(), store, source) == pytest.approx(expected, rel=1e-6)


def test_the_tokenizer_is_that_of_the_store(store: TokenStore, finished: Finished) -> None:
    text = "a tiny text"
    tokenizer = AutoTokenizer.from_pretrained(finished.outcome.model)
    assert len(tokenizer) == len(AutoTokenizer.from_pretrained(store.tokenizer_path))
    assert tokenizer(text)["input_ids"] == AutoTokenizer.from_pretrained(store.tokenizer_path)(text)["input_ids"]
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_nothing_temporary_stays(finished: Finished) -> None:
    assert sorted(path.name for path in finished.folder.iterdir()) == ["checkpoints", "model"]
    names = {path.name for path in finished.outcome.model.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)


def test_a_tied_matrix_is_stored_once(finished: Finished) -> None:
    weights = load_file(finished.outcome.model / "model.safetensors")
    assert "lm_head.weight" not in weights
    assert sum(weight.numel() for weight in weights.values()) == sum(
        parameter.numel() for parameter in AutoModelForCausalLM.from_pretrained(finished.outcome.model).parameters()
    )


def test_training_goes_on_from_an_export(store: TokenStore, finished: Finished, tmp_path: Path) -> None:
    reporter, outcome = run_tiny(store, tmp_path, **FEW, model=ModelConfig(base=str(finished.outcome.model)))
    first = reporter.curve("heldout/med/loss")[0]
    assert first == pytest.approx(finished.reporter.curve("heldout/med/loss")[-1], rel=1e-6)
    assert outcome.model.parent == tmp_path


@pytest.mark.parametrize("tied", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_zero_3_exports_whole_weights(store: TokenStore, tmp_path: Path, tied: bool) -> None:
    shape = ModelConfig(init="random", architecture=TINY.model_copy(update={"tied_embeddings": tied}))
    reporter, outcome = run_tiny(store, tmp_path, **FEW, model=shape, zero_stage=3)
    model = AutoModelForCausalLM.from_pretrained(outcome.model)
    expected = reporter.curve("heldout/med/loss")[-1]
    assert heldout_loss(model.eval(), store, "med") == pytest.approx(expected, rel=1e-6)


def test_an_older_export_is_replaced(store: TokenStore, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "stale.txt").write_text("from an attempt before")
    _, outcome = run_tiny(store, tmp_path, **FEW)
    assert not (outcome.model / "stale.txt").exists()
