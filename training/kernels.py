"""The model's attention and loss: what ``auto`` means on the device of a run."""

from __future__ import annotations

import importlib.util
from typing import Any

from ground.errors import UserError
from training.chunked_loss import chunk_loss, has_plain_head
from training.config import TrainingConfig
from training.memory import chunks_logits


def choose_kernels(model: Any, training: TrainingConfig, *, gpu: bool, half: bool) -> None:
    """Give ``model``, a transformers one, the attention and the loss that ``training`` says.

    Args:
        half: 16-bit mixed precision.

    Raises:
        UserError: this device or model cannot do what is asked for.
    """
    attention = attention_kernel(training, gpu=gpu, half=half)
    if attention != model.config._attn_implementation:
        try:
            model.set_attn_implementation(attention)
        except (ImportError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError("training.attention", f"{attention} does not work ({reason})", "use sdpa") from None
    if chunks_logits(training, model.config.vocab_size, gpu=gpu) and (
        training.loss == "chunked" or has_plain_head(model)
    ):
        chunk_loss(model)


def attention_kernel(training: TrainingConfig, *, gpu: bool, half: bool) -> str:
    """transformers' name of the attention implementation.

    Args:
        half: 16-bit mixed precision.

    Raises:
        UserError: flash attention is asked for where it cannot run.
    """
    there = importlib.util.find_spec("flash_attn") is not None
    if training.attention == "auto":
        return "flash_attention_2" if gpu and half and there and training.document_masking else "sdpa"
    if training.attention == "flash_attention_2":
        if not (gpu and half):
            where = "on CPU" if not gpu else "in fp32"
            raise UserError("training.attention", f"flash_attention_2 does not run {where}", "use sdpa")
        if not there:
            raise UserError("training.attention", "flash_attention_2 needs flash-attn, which is not there", "use sdpa")
    return training.attention
