"""Frozen layers: which parameters, that they do not move, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ground.errors import UserError
from ground.files import digest_file
from pipelines.store import TokenStore
from tests.helpers.runs import TINY, run_tiny
from tests.training.conftest import FEW, SHORT
from training.config import ModelConfig, TrainingConfig
from training.freeze import check_freezing, freeze, transformer_blocks
from training.model import build_model


def model_of(layers: int, *, tied: bool) -> Any:
    shape = TINY.model_copy(update={"layers": layers, "tied_embeddings": tied})
    config = ModelConfig(init="random", architecture=shape)
    return build_model(config, vocabulary=128, end_of_document=0, seed=7, checkpointing=False)


def config_of(bottom: int, top: int) -> TrainingConfig:
    return TrainingConfig(freeze_bottom=bottom, freeze_top=top)


@pytest.mark.parametrize(
    ("bottom", "top", "tied", "frozen"),
    [
        (0, 0, False, set()),
        (1, 0, False, {"embed_tokens", "0"}),
        (0, 2, False, {"2", "3", "norm", "lm_head"}),
        (2, 1, False, {"embed_tokens", "0", "1", "3", "norm", "lm_head"}),
        (1, 0, True, {"embed_tokens", "0"}),
        (0, 1, True, {"embed_tokens", "3", "norm"}),
    ],
)
def test_embeddings_go_with_the_bottom_norm_and_head_with_the_top(
    bottom: int, top: int, tied: bool, frozen: set[str]
) -> None:
    model = model_of(4, tied=tied)
    freeze(model, config_of(bottom, top))
    found: dict[str, set[bool]] = {}
    for name, parameter in model.named_parameters():
        parts = name.removeprefix("model.").removeprefix("layers.").split(".")
        found.setdefault(parts[0], set()).add(parameter.requires_grad)
    assert all(len(states) == 1 for states in found.values())  # a layer is frozen as a whole or not at all
    assert {name for name, states in found.items() if states == {False}} == frozen


def test_the_blocks_are_found_in_their_order() -> None:
    model = model_of(3, tied=True)
    assert transformer_blocks(model) == list(model.model.layers)


def test_a_model_without_a_list_of_layers_is_refused() -> None:
    model: Any = torch.nn.Linear(2, 2)
    model.config = model_of(1, tied=True).config
    with pytest.raises(UserError, match="keeps its layers in no list"):
        transformer_blocks(model)


@pytest.mark.parametrize(("bottom", "top"), [(4, 0), (0, 4), (9, 0), (2, 2)])
def test_one_layer_at_least_must_learn(bottom: int, top: int) -> None:
    with pytest.raises(
        UserError, match=r"training\.freeze_(bottom|top): freezes \d.* of the model's 4 layers; .* most 3"
    ):
        freeze(model_of(4, tied=False), config_of(bottom, top))
    check_freezing(config_of(3, 0), 4)
    check_freezing(config_of(0, 0), 0)


@pytest.mark.parametrize("stage", [0, 1, 2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("side", ["freeze_bottom", "freeze_top"])
def test_frozen_layers_do_not_move_and_the_others_do(store: TokenStore, tmp_path: Path, stage: int, side: str) -> None:
    reporter, outcome = run_tiny(store, tmp_path, **FEW, zero_stage=stage, **{side: 1})
    config = ModelConfig(init="random", architecture=TINY)
    base = build_model(
        config,
        vocabulary=store.manifest.vocabulary,
        end_of_document=store.manifest.end_of_document,
        seed=7,
        checkpointing=False,
    )
    freeze(base, config_of(side == "freeze_bottom", side == "freeze_top"))
    after = load_file(outcome.model / "model.safetensors")
    for name, parameter in base.named_parameters():
        assert torch.equal(parameter, after[name]) == (not parameter.requires_grad), name
    resting, moving = ("0", "1") if side == "freeze_bottom" else ("1", "0")
    assert set(reporter.curve(f"update/layer_{resting}")) == {0.0}
    assert min(reporter.curve(f"update/layer_{moving}")) > 0


def test_freezing_works_with_recomputed_activations(store: TokenStore, tmp_path: Path) -> None:
    """Nothing below the first learning layer asks for gradients there."""
    plain, _ = run_tiny(store, tmp_path / "plain", **FEW, freeze_bottom=1)
    again, _ = run_tiny(store, tmp_path / "again", **FEW, freeze_bottom=1, activation_checkpointing=True)
    assert again.curve("train/loss") == pytest.approx(plain.curve("train/loss"), rel=1e-5)


@pytest.mark.parametrize("stage", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_run_with_frozen_layers_resumes_exactly(store: TokenStore, tmp_path: Path, stage: int) -> None:
    changes: dict[str, Any] = SHORT | {"freeze_bottom": 1, "zero_stage": stage}
    whole, outcome = run_tiny(store, tmp_path / "whole", **changes)
    again, resumed = run_tiny(
        store, tmp_path / "again", resume=tmp_path / "whole" / "checkpoints" / "step-8", **changes
    )
    assert again.curve("train/loss") == whole.curve("train/loss")
    assert again.curve("update/layer_1") == whole.curve("update/layer_1")
    assert digest_file(outcome.model / "model.safetensors") == digest_file(resumed.model / "model.safetensors")
