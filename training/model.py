"""The model: a pre-trained one from disk or hub, or a Llama-architecture one from nothing.

transformers is imported where it is needed: its models take 3 s to load, and a plan needs only shapes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ground.errors import UserError
from training.chunked_loss import chunks_loss
from training.config import Architecture, ModelConfig
from training.feed import Rows

IGNORED = -100  # target that carries no loss; PyTorch's own default


def build_model(
    config: ModelConfig, *, vocabulary: int, end_of_document: int, seed: int, checkpointing: bool
) -> nn.Module:
    """The model in fp32, on the CPU, ready for DeepSpeed.

    Args:
        vocabulary: size of the store's vocabulary; the model's must be at least that.
        end_of_document: token id, written to the model's generation settings for ``init: random``.
        seed: initial weights for ``init: random``.
        checkpointing: recompute activations in the backward pass.

    Raises:
        UserError: the base cannot be found or read, or its vocabulary is smaller than the store's.
    """
    model: Any = (
        _random_model(_shape(config), vocabulary, end_of_document, seed)
        if config.init == "random"
        else _pretrained(config)
    )
    check_vocabulary(model.config.vocab_size, vocabulary)
    if checkpointing:
        model.gradient_checkpointing_enable()
    model.config.use_cache = False
    built: nn.Module = model
    return built


def check_vocabulary(of_model: int, of_store: int) -> None:
    """Raise UserError when a store's tokens do not fit the model."""
    if of_store > of_model:
        raise UserError(
            "model.base",
            f"has a vocabulary of {of_model:,}, the store was tokenised with {of_store:,}",
            "curate with the model's own tokenizer (another curation.store), or give the model the store was made for",
        )


def model_shape(config: ModelConfig, vocabulary: int | None = None) -> tuple[Architecture, int]:
    """Shape and vocabulary of the model without its weights: from the recipe, else from the base's ``config.json``.

    Raises:
        UserError: neither tells them.
    """
    if config.architecture is not None:
        size = config.architecture.vocabulary or vocabulary
        if size is None:
            raise UserError("model.architecture.vocabulary", "is absent", "give it, or run `steady curate` first")
        return config.architecture, size
    from transformers import AutoConfig

    base = _load(AutoConfig, config)
    try:
        shape = Architecture(
            hidden_size=base.hidden_size,
            layers=base.num_hidden_layers,
            heads=base.num_attention_heads,
            kv_heads=getattr(base, "num_key_value_heads", None),
            intermediate_size=base.intermediate_size,
            max_positions=base.max_position_embeddings,
            tied_embeddings=bool(base.tie_word_embeddings),
        )
    except AttributeError as error:
        raise UserError(
            "model.base", f"is not of a Llama-like architecture ({error})", "give model.architecture"
        ) from None
    return shape, int(base.vocab_size)


def causal_loss(
    model: nn.Module,
    tokens: torch.Tensor,
    reduction: str = "mean",
    *,
    targets: torch.Tensor | None = None,
    positions: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross-entropy of each next token, in nats: the mean (NaN if there are no targets) or ``sum`` over the targets, or
    (``none``) [rows * L] values, 0 at the last position of each row and before tokens that are no targets.

    Args:
        tokens: int64 [rows, L].
        targets: tokens whose prediction counts, bool [rows, L]; absent: all but the first of each row, which has nothing
            before it and never counts.
        positions: int64 [rows, L], beginning anew at 0 with each document: then no document sees another. Its first
            token is still predicted, from the end of the one before.
    """
    # Shifting the targets instead of the logits avoids a copy of the largest tensor of the step.
    labels = torch.cat([tokens[:, 1:], tokens.new_full((len(tokens), 1), IGNORED)], dim=1)
    if targets is not None:
        labels[:, :-1].masked_fill_(~targets[:, 1:], IGNORED)
    if chunks_loss(model):
        losses: torch.Tensor = model(**_inputs(model, tokens, positions), labels=labels.flatten())
        whole = losses if reduction == "none" else losses.sum()
        return whole / (labels != IGNORED).sum() if reduction == "mean" else whole
    logits = _logits(model, tokens, positions)
    return functional.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction=reduction
    )


def training_loss(model: nn.Module, rows: Rows, target_weight: float | None) -> torch.Tensor:
    """What a micro-batch adds to the loss of its global batch: the mean over its tokens or, where targets are masked, the
    weighted sum over its targets (see ``Feed.target_weight``). The loss is the mean of these over micro-batches and ranks.
    """
    if target_weight is None:
        return causal_loss(model, rows.tokens, positions=rows.positions)
    total = causal_loss(model, rows.tokens, "sum", targets=rows.targets, positions=rows.positions)
    return total * target_weight


def _logits(model: nn.Module, tokens: torch.Tensor, positions: torch.Tensor | None) -> torch.Tensor:
    """Logits [rows, L, vocabulary], or [1, rows * L, vocabulary] where flash attention tells documents apart."""
    return model(**_inputs(model, tokens, positions)).logits  # type: ignore[no-any-return]


def _inputs(model: nn.Module, tokens: torch.Tensor, positions: torch.Tensor | None) -> dict[str, Any]:
    """What the model is called with.

    Given positions that begin anew, no attention mask and no cache, transformers masks other documents by itself: a
    block-diagonal mask for SDPA and eager attention (``masking_utils.find_packed_sequence_indices``), lengths for flash
    attention. The latter looks at the positions of a batch of one row only (``_is_packed_sequence``) and would let
    documents see each other in silence in a larger one; joined, the rows are just more documents.
    """
    if positions is None:
        return {"input_ids": tokens}
    if "flash" in _attention(model):
        tokens, positions = tokens.reshape(1, -1), positions.reshape(1, -1)
    return {"input_ids": tokens, "position_ids": positions, "use_cache": False}


def _attention(model: Any) -> str:
    """Name of the attention implementation; ``model`` may be wrapped by DeepSpeed, whose ``config`` is its own."""
    return str(getattr(model, "module", model).config._attn_implementation)


def _shape(config: ModelConfig) -> Architecture:
    assert config.architecture is not None  # validated by ModelConfig
    return config.architecture


def _random_model(shape: Architecture, vocabulary: int, end_of_document: int, seed: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    llama = LlamaConfig(
        vocab_size=shape.vocabulary or vocabulary,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads or shape.heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=shape.max_positions,
        tie_word_embeddings=shape.tied_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        bos_token_id=end_of_document,
        eos_token_id=end_of_document,
        pad_token_id=end_of_document,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(llama)


def _pretrained(config: ModelConfig) -> Any:
    from transformers import AutoModelForCausalLM

    return _load(AutoModelForCausalLM, config, dtype=torch.float32, use_safetensors=True, attn_implementation="sdpa")


def _load(loader: Any, config: ModelConfig, **options: Any) -> Any:
    """Load from a folder or by name, without remote code and, for a folder, without asking any network."""
    base = config.base
    assert base is not None  # validated by ModelConfig
    local = Path(base).is_dir()
    if not local and (base.startswith((".", "/", "~")) or base.count("/") != 1 or Path(base).parent.is_dir()):
        raise UserError("model.base", f"there is no folder {base!r}", "give a model's folder or its Hugging Face name")
    if local and not (Path(base) / "config.json").is_file():
        raise UserError("model.base", f"{base!r} has no config.json", "give a folder that save_pretrained wrote")
    try:
        return loader.from_pretrained(base, trust_remote_code=False, local_files_only=local, **options)
    except (OSError, ValueError, json.JSONDecodeError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise UserError(
            "model.base", f"{base!r} cannot be loaded ({first_line})", "check the name or the folder"
        ) from None
