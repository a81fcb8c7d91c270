"""The DeepSpeed engine: configuration and optimiser in one place."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from training.config import TrainingConfig

_NO_DECAY_DIMENSIONS = 1  # norms and biases are vectors
_CPU_BUCKET = 500_000  # elements


def resolve_precision(config: TrainingConfig, device: torch.device) -> str:
    """``fp32`` or ``bf16``: what ``auto`` means on this device."""
    if config.precision == "auto":
        return "bf16" if device.type == "cuda" else "fp32"
    return config.precision


def deepspeed_config(config: TrainingConfig, *, world: int, precision: str, on_cpu: bool = False) -> dict[str, Any]:
    """The whole DeepSpeed configuration of a run."""
    zero: dict[str, Any] = {"stage": config.zero_stage}
    if on_cpu:
        # Without the copy of every gradient into one buffer, and with pieces that fit the cache, ZeRO 1 costs half as
        # much per step. Stage 2 needs the buffer.
        zero |= {"reduce_bucket_size": _CPU_BUCKET, "contiguous_gradients": config.zero_stage > 1}
    return {
        "train_batch_size": config.batch_sequences,
        "train_micro_batch_size_per_gpu": config.micro_batch,
        "gradient_accumulation_steps": config.batch_sequences // (world * config.micro_batch),
        "gradient_clipping": config.gradient_clip,
        "bf16": {"enabled": precision == "bf16"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,  # torch's own AdamW; DeepSpeed only knows its own by name
        "steps_per_print": 1 << 62,
    }


def build_engine(
    model: nn.Module, config: TrainingConfig, *, world: int, device: torch.device, convert_checkpoint: bool = False
) -> Any:
    """A DeepSpeed engine around ``model`` with torch's fused AdamW. The process group must exist already.

    Args:
        convert_checkpoint: it will load a checkpoint of another number of workers.

    The learning rate is set by the loop before every step, since it is a pure function of the step.
    """
    if device.type == "cpu":
        # DeepSpeed would otherwise compile its kernels for 80 s; fp32 training uses none of them.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    deepspeed = _import_deepspeed()
    if device.type == "cpu":
        _skip_shared_memory_kernel(deepspeed)
    optimizer = torch.optim.AdamW(
        _parameter_groups(model, config.weight_decay),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=True,
    )
    precision = resolve_precision(config, device)
    settings = deepspeed_config(config, world=world, precision=precision, on_cpu=device.type == "cpu")
    if convert_checkpoint:
        settings["checkpoint"] = {"load_universal": True}
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
    return engine


def set_learning_rate(engine: Any, rate: float) -> None:
    """Rate of the next optimiser step, for all parameter groups."""
    for group in engine.optimizer.param_groups:
        group["lr"] = rate


def gradient_norm(engine: Any) -> dict[str, float]:
    """``train/gradient_norm`` of the last update, before clipping; empty where DeepSpeed tells none (ZeRO 0, fp32)."""
    norm = engine.get_global_grad_norm()
    return {} if norm is None else {"train/gradient_norm": float(norm)}


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() > _NO_DECAY_DIMENSIONS], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= _NO_DECAY_DIMENSIONS], "weight_decay": 0.0},
    ]


def _import_deepspeed() -> Any:
    """Import DeepSpeed, only where training really happens, and without two things it loads but training never uses:
    MLflow for its autotuner (1.2 of 1.4 s of processor time) and torch's compiler for the Muon optimiser (1.2 s).
    """
    with _hidden("mlflow"):
        import deepspeed
    with contextlib.suppress(ImportError, AttributeError), _uncompiled(deepspeed.runtime.compiler):
        importlib.import_module("deepspeed.runtime.zero.muon.original_muon")
    return deepspeed


@contextlib.contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Make importing ``module`` fail inside the block, unless it is loaded already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # Python's own way to say: cannot be imported
    try:
        yield
    finally:
        del sys.modules[module]


@contextlib.contextmanager
def _uncompiled(compiler: Any) -> Iterator[None]:
    """Make DeepSpeed's decorator ``compile`` leave functions as they are inside the block."""
    original = compiler.compile
    compiler.compile = lambda *_, **__: lambda function: function
    try:
        yield
    finally:
        compiler.compile = original


def _skip_shared_memory_kernel(deepspeed: Any) -> None:
    """Keep DeepSpeed from compiling a kernel that only serves inference (52 s cold); gloo carries training."""
    builders = getattr(deepspeed.ops, "__compatible_ops__", None)
    if isinstance(builders, dict):
        builders["deepspeed_shm_comm"] = False
