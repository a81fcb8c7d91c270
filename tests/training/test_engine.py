"""What DeepSpeed is told, and what it makes of it: precision, overflow, offload, compilation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ground.errors import UserError
from ground.files import digest_file
from pipelines.store import TokenStore
from tests.helpers.runs import TINY, ensure_process_group, run_tiny
from tests.training.conftest import FEW, Finished
from training.config import ModelConfig, TrainingConfig
from training.engine import (
    _parameter_groups,
    build_engine,
    deepspeed_config,
    gradient_norm,
    resolve_precision,
    set_learning_rate,
    skipped_is_fatal,
)
from training.model import build_model, causal_loss
from training.updates import _masters, _own_part

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SHAPE = ModelConfig(init="random", architecture=TINY)


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
    model = build_model(SHAPE, vocabulary=300, end_of_document=0, seed=1, checkpointing=False)
    decayed, kept = _parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert {parameter.dim() for parameter in decayed["params"]} == {2}
    assert len(kept["params"]) == 2 * 2 + 1  # two norms a block and the last
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))


def built(**changes: Any) -> Any:
    ensure_process_group()
    model = build_model(SHAPE, vocabulary=300, end_of_document=0, seed=1, checkpointing=False)
    training = config(accelerator="cpu", global_batch_tokens=64 * 4, **changes)
    return build_engine(model, training, world=1, device=CPU)


def train_step(engine: Any, scale: float = 1.0) -> None:
    """One optimiser step of two micro-batches."""
    tokens = torch.arange(2 * 64).reshape(2, 64)
    for _ in range(2):
        engine.backward(scale * causal_loss(engine, tokens))
        engine.step()


@pytest.mark.parametrize("stage", [0, 1])
def test_the_first_update_of_adam_has_its_full_size(stage: int) -> None:
    """Its size is the rate, for every weight that has a gradient."""
    engine = built(precision="bf16", zero_stage=stage, weight_decay=0.0)
    weight = next(p for name, p in engine.module.named_parameters() if "q_proj" in name)
    masters = _masters(engine.optimizer)
    before = _own_part(weight, masters).clone()
    set_learning_rate(engine, 1e-3)
    train_step(engine)
    moved = (_own_part(weight, masters) - before).abs()
    assert moved.median().item() == pytest.approx(1e-3, rel=1e-3)
    engine.destroy()


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_gradients_are_summed_in_fp32(stage: int) -> None:
    """What bf16 would round away beside a sum 512 times as large still counts: the norm tells."""
    engine = built(precision="bf16", zero_stage=stage)
    tokens = torch.arange(2 * 64).reshape(2, 64)
    norms = []
    for small in (0.0, 1 / 512):
        for weight in (1.0, small):
            engine.backward(weight * causal_loss(engine, tokens))
            set_learning_rate(engine, 0.0)
            engine.step()
        norms.append(gradient_norm(engine)["train/gradient_norm"])
    assert norms[1] / norms[0] == pytest.approx(1 + 1 / 512, rel=5e-4)
    engine.destroy()


def test_one_worker_alone_sums_with_no_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """At stage 0 gradients go to the optimiser as they are, and the update is that of plain torch."""
    engine = built(zero_stage=0, gradient_clip=0.5, weight_decay=0.1)
    plain = build_model(SHAPE, vocabulary=300, end_of_document=0, seed=1, checkpointing=False)
    monkeypatch.setattr(engine, "allreduce_bucket", lambda *_, **__: pytest.fail("nothing is to be summed"))
    set_learning_rate(engine, 1e-3)
    train_step(engine)
    optimizer = torch.optim.AdamW(_parameter_groups(plain, 0.1), lr=1e-3, betas=(0.9, 0.95), fused=True)
    causal_loss(plain, torch.arange(2 * 64).reshape(2, 64)).backward()
    torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
    optimizer.step()
    for ours, theirs in zip(engine.module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    engine.destroy()


@pytest.fixture
def fp16_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSpeed refuses it on CPUs without AMX; torch computes it."""
    from deepspeed.accelerator import get_accelerator

    monkeypatch.setattr(type(get_accelerator()), "is_fp16_supported", lambda _: True)


@pytest.mark.usefixtures("fp16_on_cpu")
def test_an_overflow_in_fp16_is_fatal_only_without_a_scale() -> None:
    engine = built(precision="fp16")
    scales = []
    for _ in range(40):
        train_step(engine, scale=float("inf"))
        scales.append(engine.optimizer.loss_scale)
        if skipped_is_fatal(engine):
            break
    assert engine.skipped_steps == len(scales)
    assert (scales[0], scales[-1]) == (2**16, 1.0)
    assert scales == sorted(scales, reverse=True)
    assert gradient_norm(engine) == {}
    engine.destroy()


@pytest.mark.usefixtures("fp16_on_cpu")
def test_fp16_learns_after_it_found_its_scale() -> None:
    engine = built(precision="fp16", learning_rate=3e-3)
    losses = [causal_loss(engine, torch.arange(2 * 64).reshape(2, 64)).item()]
    for _ in range(12):
        train_step(engine)
    losses.append(causal_loss(engine, torch.arange(2 * 64).reshape(2, 64)).item())
    assert losses[1] < losses[0] - 0.1
    assert engine.skipped_steps < 12
    engine.destroy()


def test_a_skipped_update_in_bf16_is_fatal() -> None:
    engine = built(precision="bf16")
    train_step(engine, scale=float("inf"))
    assert engine.skipped_steps == 1
    assert skipped_is_fatal(engine)
    engine.destroy()


def test_what_this_machine_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from deepspeed.accelerator import get_accelerator
    from torch._inductor.exc import InvalidCxxCompiler

    monkeypatch.setattr(type(get_accelerator()), "is_fp16_supported", lambda _: False)
    with pytest.raises(UserError, match=r"training\.precision: fp16 does not run on this device"):
        built(precision="fp16")

    def none() -> None:
        raise InvalidCxxCompiler

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", none)
    with pytest.raises(UserError, match=r"training\.compile: needs a C\+\+ compiler"):
        built(compile=True)


@pytest.mark.parametrize(
    ("stage", "offload"),
    [(1, "optimizer"), (2, "optimizer"), pytest.param(3, "parameters", marks=pytest.mark.slow)],
)
def test_offloading_changes_no_number_and_resumes_exactly(
    store: TokenStore, few: Finished, tmp_path: Path, stage: int, offload: str
) -> None:
    changes = FEW | {"zero_stage": stage, "offload": offload, "checkpoint_tokens": 2 * 512}
    reporter, outcome = run_tiny(store, tmp_path / "whole", **changes)
    assert reporter.curve("train/loss") == pytest.approx(few.reporter.curve("train/loss"), rel=1e-5)
    checkpoint = tmp_path / "whole" / "checkpoints" / "step-2"
    again, resumed = run_tiny(store, tmp_path / "again", resume=checkpoint, **changes)
    assert again.curve("train/loss") == reporter.curve("train/loss")
    assert digest_file(resumed.model / "model.safetensors") == digest_file(outcome.model / "model.safetensors")


@pytest.mark.slow
def test_a_compiled_model_computes_the_same(store: TokenStore, few: Finished, tmp_path: Path) -> None:
    reporter, _ = run_tiny(store, tmp_path, **FEW, compile=True)
    for name in ("train/loss", "heldout/med/loss"):
        assert reporter.curve(name) == pytest.approx(few.reporter.curve(name), rel=1e-5)
