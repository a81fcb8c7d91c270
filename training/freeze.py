"""Layers that do not learn: the baselines of section 5 (Guo et al. 2024, Table 1), and which layers a model has."""

from __future__ import annotations

from typing import Any

from torch import nn

from ground.errors import UserError
from training.config import TrainingConfig


def transformer_blocks(model: nn.Module) -> list[nn.Module]:
    """The model's transformer blocks, from the embeddings to the head.

    Raises:
        UserError: no list of modules is as long as ``num_hidden_layers`` says.
    """
    config: Any = model.config
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == config.num_hidden_layers:
            return list(module)
    raise UserError("model", f"{type(model).__name__} keeps its layers in no list", "use a Llama-like model")


def check_freezing(config: TrainingConfig, layers: int) -> None:
    """Raise UserError when fewer than one of ``layers`` transformer blocks would learn."""
    frozen = config.freeze_bottom + config.freeze_top
    if frozen and frozen >= layers:
        field = "training.freeze_bottom" if config.freeze_bottom else "training.freeze_top"
        both = " together with freeze_top" if config.freeze_bottom and config.freeze_top else ""
        raise UserError(
            field, f"freezes {frozen}{both} of the model's {layers} layers", f"freeze at most {layers - 1} in all"
        )


def freeze(model: Any, config: TrainingConfig) -> None:
    """Set ``requires_grad`` off for the bottom and top blocks that ``config`` names.

    The input embeddings go with the bottom, the final norm and the head with the top. A matrix that is both embeddings and
    head (tied) is frozen by either: what was asked to stay does not move.

    Raises:
        UserError: no block would be left to learn.
    """
    if not config.freeze_bottom and not config.freeze_top:
        return
    blocks = transformer_blocks(model)
    check_freezing(config, len(blocks))
    frozen: list[nn.Module] = blocks[: config.freeze_bottom] + blocks[len(blocks) - config.freeze_top :]
    if config.freeze_bottom:
        frozen.append(model.get_input_embeddings())
    if config.freeze_top:
        frozen.append(model.get_output_embeddings())
        frozen += _final_norms(model, blocks)
    for module in frozen:
        module.requires_grad_(False)


def _final_norms(model: Any, blocks: list[nn.Module]) -> list[nn.Module]:
    """What stands beside the list of blocks, without it and the embeddings: in Llama-like models, the last norm."""
    for parent in model.modules():
        children = list(parent.children())
        if any(isinstance(child, nn.ModuleList) and list(child) == blocks for child in children):
            embeddings = model.get_input_embeddings()
            return [c for c in children if not isinstance(c, nn.ModuleList) and c is not embeddings]
    return []
