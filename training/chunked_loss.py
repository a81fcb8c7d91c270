"""The loss without all logits at once: some tokens at a time, recomputed in the backward pass.

With a large vocabulary the logits are the largest tensor of a step: at 128 k words and 8,192 tokens 12.6 GB (12 bytes each, see
``memory.logit_bytes``). Here at most ``CHUNK_ELEMENTS`` of them exist. The price is the head's matrix product once more. It is
the model's own head that computes them, inside the model's own forward pass, so ZeRO 3 gathers its weights as ever.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ground.errors import UserError

CHUNK_ELEMENTS = 1 << 26
"""Logits at once: 0.8 GB at 12 bytes each."""

# transformers' models of these types apply the head to the last hidden state and nothing after it: no scaling, no cap.
_PLAIN_HEADS = {"llama", "mistral", "mixtral", "olmo2", "qwen2", "qwen3", "smollm3"}


def chunk_tokens(vocabulary: int) -> int:
    """Tokens whose logits exist at once."""
    return max(1, CHUNK_ELEMENTS // vocabulary)


def has_plain_head(model: Any) -> bool:
    """Whether the logits are known to be the head's output as it is."""
    return getattr(model.config, "model_type", None) in _PLAIN_HEADS


def chunk_loss(model: Any) -> None:
    """Give ``model`` another forward pass: called with ``labels`` int64 [rows * L] it returns each token's loss, fp32 of the same
    shape, 0 where the label is -100. Without ``labels`` it is as before.

    Raises:
        UserError: the model may do more to its logits than its head does.
    """
    if not has_plain_head(model):
        raise UserError("training.loss", f"chunked does not know {type(model).__name__}", "use full")
    whole = model.forward

    def forward(*inputs: Any, labels: torch.Tensor | None = None, **options: Any) -> Any:
        if labels is None:
            return whole(*inputs, **options)
        hidden = model.base_model(*inputs, **options).last_hidden_state.flatten(0, 1)
        size = chunk_tokens(model.config.vocab_size)
        head = model.get_output_embeddings()
        parts = zip(hidden.split(size), labels.split(size), strict=True)  # type: ignore[no-untyped-call]
        return torch.cat([checkpoint(_losses, head, *part, use_reentrant=False) for part in parts])

    model.forward = forward
    model.chunked_loss = True


def chunks_loss(model: Any) -> bool:
    """Whether ``chunk_loss`` was called for ``model``, which DeepSpeed may have wrapped."""
    return getattr(getattr(model, "module", model), "chunked_loss", False)


def _losses(head: nn.Module, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(head(hidden).float(), labels, reduction="none")
