"""The DeepSpeed engine: configuration and optimiser in one place."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ground.errors import UserError
from training.config import TrainingConfig
from training.deepspeed_import import import_deepspeed, skip_shared_memory_kernel
from training.kernels import choose_kernels

_NO_DECAY_DIMENSIONS = 1  # norms and biases are vectors
_CPU_BUCKET = 500_000  # elements


def resolve_precision(config: TrainingConfig, device: torch.device) -> str:
    """``fp32``, ``bf16`` or ``fp16``: what ``auto`` means on this device."""
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
    if config.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": not on_cpu}
    if config.offload == "parameters":
        zero["offload_param"] = {"device": "cpu", "pin_memory": not on_cpu}
    half = precision != "fp32"
    return {
        "train_batch_size": config.batch_sequences,
        "train_micro_batch_size_per_gpu": config.micro_batch,
        "gradient_accumulation_steps": config.batch_sequences // (world * config.micro_batch),
        "gradient_clipping": config.gradient_clip,
        # With immediate_grad_update no 16-bit gradient outlives its addition to the fp32 sum.
        "bf16": {"enabled": precision == "bf16", "immediate_grad_update": precision == "bf16"},
        "fp16": {"enabled": precision == "fp16"},  # the scale is dynamic and begins at 2^16
        # 16 bits lose small gradients beside the sum of earlier ones. Stage 0 knows no such setting: _sum_in_fp32.
        "data_types": {"grad_accum_dtype": "fp32"} if half and config.zero_stage else {},
        # Stages 0 and 1 would round the whole sum to 16 bits once more, to send it; the others send each micro-batch.
        "communication_data_type": "fp32" if half and config.zero_stage < 2 else None,
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,  # torch's fused AdamW is vectorised on CPU too and needs no compiler
        "zero_allow_untested_optimizer": True,  # torch's own AdamW; DeepSpeed only knows its own by name
        "steps_per_print": 1 << 62,
    }


def build_engine(
    model: nn.Module, config: TrainingConfig, *, world: int, device: torch.device, convert_checkpoint: bool = False
) -> Any:
    """A DeepSpeed engine around ``model``, a transformers one, with torch's fused AdamW. The process group must exist already.

    Args:
        convert_checkpoint: it will load a checkpoint of another number of workers.

    The learning rate is set by the loop before every step, since it is a pure function of the step.

    Raises:
        UserError: this device or machine cannot do what ``config`` asks for.
    """
    if device.type == "cpu":
        # DeepSpeed would otherwise compile its kernels for 80 s; fp32 training uses none of them.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    deepspeed = import_deepspeed()
    if device.type == "cpu":
        skip_shared_memory_kernel(deepspeed)
    optimizer = torch.optim.AdamW(
        _parameter_groups(model, config.weight_decay),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=True,
    )
    precision = resolve_precision(config, device)
    choose_kernels(model, config, gpu=device.type == "cuda", half=precision != "fp32")
    _check_precision(precision, deepspeed)
    settings = deepspeed_config(config, world=world, precision=precision, on_cpu=device.type == "cpu")
    if convert_checkpoint:
        settings["checkpoint"] = {"load_universal": True}
    with _without_steps(optimizer):
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
    if precision != "fp32" and not config.zero_stage:
        _sum_in_fp32(engine)
    if precision == "fp32" and not config.zero_stage and (world == 1 or device.type == "cpu"):
        _average_in_place(engine, world)
    if config.compile:
        _check_compiler(device)
        engine.compile()
    return engine


def set_learning_rate(engine: Any, rate: float) -> None:
    """Rate of the next optimiser step, for all parameter groups."""
    for group in engine.optimizer.param_groups:
        group["lr"] = rate


def gradient_norm(engine: Any) -> dict[str, float]:
    """``train/gradient_norm`` of the last update, before clipping; empty where DeepSpeed tells none (ZeRO 0, fp32) or the
    update was skipped."""
    norm = engine.get_global_grad_norm()
    return {} if norm is None or not math.isfinite(norm) else {"train/gradient_norm": float(norm)}


def skipped_is_fatal(engine: Any) -> bool:
    """Whether an update that DeepSpeed has just skipped, its gradients not being finite, ends what can be learned.

    In fp16 it only tells that the loss was scaled too much: the scale is halved, until it is 1 and the gradients overflow
    without it. With other precisions nothing is scaled.
    """
    return not engine.fp16_enabled() or float(engine.optimizer.loss_scale) <= 1.0


@contextlib.contextmanager
def _without_steps(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Keep DeepSpeed from stepping ``optimizer`` while it sets up. With 16 bits at stage 0 it takes a step on gradients of
    zero to allocate the moments (0.19.8, ``FP16_UnfusedOptimizer.initialize_optimizer_states``). Adam counts that step, so
    that its first real one is biased towards 0 (0.73 of its size at betas of 0.9 and 0.95), and decays the weights. The
    moments come with the first real step just as well.
    """
    vars(optimizer)["step"] = lambda *_, **__: None
    try:
        yield
    finally:
        del vars(optimizer)["step"]


def _average_in_place(engine: Any, world: int) -> None:
    """Let workers average each gradient where it lies, and one worker leave them as they are. DeepSpeed would copy all of
    them into one buffer and back: 2 to 3 % of a step of one CPU worker. For up to two workers the numbers are the same."""

    def average(**_: object) -> None:
        gradients, _ = engine._get_gradients_for_reduction()
        for work in [torch.distributed.all_reduce(gradient, async_op=True) for gradient in gradients]:
            work.wait()
        torch._foreach_mul_(gradients, 1.0 / world)

    if world == 1:
        engine.enable_backward_allreduce = False
    else:
        engine.buffered_allreduce_fallback = average


def _sum_in_fp32(engine: Any) -> None:
    """Let autograd keep the gradients of 16-bit weights in fp32.

    Raises:
        UserError: this torch cannot.
    """
    if not hasattr(torch.Tensor, "grad_dtype"):
        raise UserError(
            "training.zero_stage", "0 in 16 bits needs torch 2.10 or later", "use zero_stage 1, or update torch"
        )
    for parameter in engine.module.parameters():
        if parameter.requires_grad:
            parameter.grad_dtype = torch.float32


def _check_precision(precision: str, deepspeed: Any) -> None:
    accelerator = deepspeed.accelerator.get_accelerator()
    if precision == "fp16" and not accelerator.is_fp16_supported():
        raise UserError("training.precision", "fp16 does not run on this device", "use bf16 or fp32")
    if precision == "bf16" and not accelerator.is_bf16_supported():
        raise UserError(
            "training.precision", "bf16 does not run on this device", "use fp16 on GPUs before Ampere, or fp32"
        )


def _check_compiler(device: torch.device) -> None:
    """Raise UserError when torch.compile would not find what it needs, which it only says at the first step."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        if not has_triton():
            raise UserError("training.compile", "needs Triton, which is not there", "install triton, or leave it off")
        return
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise UserError(
            "training.compile", "needs a C++ compiler, which is not there", "install g++, or leave it off"
        ) from None


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if _dimensions(p) > _NO_DECAY_DIMENSIONS], "weight_decay": weight_decay},
        {"params": [p for p in trained if _dimensions(p) <= _NO_DECAY_DIMENSIONS], "weight_decay": 0.0},
    ]


def _dimensions(parameter: nn.Parameter) -> int:
    return len(getattr(parameter, "ds_shape", parameter.shape))  # ZeRO 3 may have flattened it while loading
