"""What DeepSpeed is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.helpers.runs import TINY
from training.config import ModelConfig, TrainingConfig
from training.engine import _parameter_groups, deepspeed_config, resolve_precision
from training.model import build_model

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def config(**changes: Any) -> TrainingConfig:
    return TrainingConfig(**({"sequence_length": 64, "global_batch_tokens": 64 * 48, "micro_batch": 2} | changes))


@pytest.mark.parametrize(
    ("precision", "device", "expected"),
    [("auto", CPU, "fp32"), ("auto", GPU, "bf16"), ("fp32", GPU, "fp32"), ("bf16", CPU, "bf16")],
)
def test_automatic_precision_goes_by_the_device(precision: str, device: torch.device, expected: str) -> None:
    assert resolve_precision(config(precision=precision), device) == expected


@pytest.mark.parametrize(("world", "accumulation"), [(1, 24), (2, 12), (8, 3), (24, 1)])
def test_the_batch_is_global_for_any_world(world: int, accumulation: int) -> None:
    told = deepspeed_config(config(zero_stage=2), world=world, precision="fp32")
    assert told["train_batch_size"] == 48
    assert told["train_batch_size"] == told["train_micro_batch_size_per_gpu"] * accumulation * world
    assert told["gradient_accumulation_steps"] == accumulation
    assert told["zero_optimization"]["stage"] == 2
    assert not told["bf16"]["enabled"]


def test_only_matrices_decay() -> None:
    shape = ModelConfig(init="random", architecture=TINY)
    model = build_model(shape, vocabulary=300, end_of_document=0, seed=1, checkpointing=False)
    decayed, kept = _parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert {parameter.dim() for parameter in decayed["params"]} == {2}
    assert len(kept["params"]) == 2 * 2 + 1  # two norms a block and the last
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))
