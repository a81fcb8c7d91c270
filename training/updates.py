"""Relative weight update per layer: how far training has moved each transformer block from the base.

Guo et al. (2024, section 3) average (w_t - w_0) / w_0 over the weights of the bottom 5 and of the top 5 layers, and watch
bottom / top, which begins above 1.35 and should come near 1. They do not say how signs and weights near 0 are treated, and a
mean of quotients is ruled by the smallest divisors, so here a layer's update is ``|w_t - w_0| / |w_0|`` with Euclidean norms
over all weights of the layer. Numbers are not to be compared with the paper's, the course of the ratio is.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from training.freeze import transformer_blocks

_LAYERS = 5  # at either end, the paper's


class LayerUpdates:
    """The base's weights, and how far the model has gone from them.

    Every rank keeps the fp32 weights that its part of the optimiser holds (ZeRO 1 to 3: the whole model once over all ranks,
    4 bytes a weight, in CPU memory). The model's own bf16 weights would not do: rounding is larger than a small update. At
    ZeRO 0 nothing is split, and rank 0 keeps them all.

    *Important*: make it between building the engine and loading a checkpoint, so that a resumed run compares with the base.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._layers = [
            [p for p in block.parameters() if p.requires_grad] for block in transformer_blocks(engine.module)
        ]
        masters = _masters(engine.optimizer)
        self._base = [[_own_part(p, masters).float().to("cpu", copy=True) for p in layer] for layer in self._layers]

    @torch.no_grad()
    def measure(self, device: torch.device) -> dict[str, float]:
        """``update/layer_<i>`` (0 is the lowest; 0.0 when frozen), ``update/bottom``, ``update/top`` and ``update/ratio``.

        All ranks must call this together.
        """
        masters = _masters(self._engine.optimizer)  # loading a checkpoint may have replaced them
        squares = torch.zeros(2, len(self._layers), dtype=torch.float64, device=device)
        for index, (layer, base) in enumerate(zip(self._layers, self._base, strict=True)):
            for parameter, kept in zip(layer, base, strict=True):
                was = kept.to(device)
                squares[0, index] += _square(_own_part(parameter, masters).to(device).float() - was)
                squares[1, index] += _square(was)
        if dist.get_world_size() > 1:
            dist.all_reduce(squares)
        moved, whole = squares.sqrt().tolist()
        return update_metrics([m / w if w else 0.0 for m, w in zip(moved, whole, strict=True)])


def update_metrics(updates: list[float]) -> dict[str, float]:
    """The metrics of the layers' relative updates, lowest layer first.

    ``bottom`` and ``top`` are means over 5 layers; with fewer than 10 layers over half of them, so that no layer counts for
    both (6 layers: 3 and 3; 7: 3 and 3, the middle one for neither). A model of one layer has neither. There is no
    ``ratio`` while the top has not moved.
    """
    metrics = {f"update/layer_{index}": update for index, update in enumerate(updates)}
    count = min(_LAYERS, len(updates) // 2)
    if count:
        bottom, top = sum(updates[:count]) / count, sum(updates[-count:]) / count
        metrics |= {"update/bottom": bottom, "update/top": top} | ({"update/ratio": bottom / top} if top else {})
    return metrics


def _masters(optimizer: Any) -> dict[nn.Parameter, torch.Tensor]:
    """The fp32 copies of the weights that DeepSpeed keeps whole: in bf16 at ZeRO 0."""
    pairs = zip(getattr(optimizer, "fp16_groups", ()), getattr(optimizer, "fp32_groups", ()), strict=False)
    return {own: master for group, copies in pairs for own, master in zip(group, copies, strict=True)}


def _own_part(parameter: nn.Parameter, masters: dict[nn.Parameter, torch.Tensor]) -> torch.Tensor:
    """The weights of ``parameter`` that this rank answers for, in fp32 where DeepSpeed keeps them so; perhaps none."""
    known: Any = parameter
    part: torch.Tensor
    if hasattr(known, "ds_id"):  # ZeRO 3
        part = known._z3_optimizer.get_local_fp32_param(known).flatten()
        begin = dist.get_rank() * part.numel()
        part = part[: max(0, min(part.numel(), known.ds_numel - begin))]  # the last part is padded
    elif hasattr(known, "_hp_mapping"):  # ZeRO 1 and 2
        part = parameter.new_empty(0) if known._hp_mapping is None else known._hp_mapping.get_hp_fragment()
    else:
        part = masters.get(parameter, parameter) if dist.get_rank() == 0 else parameter.new_empty(0)
    return part.detach()


def _square(values: torch.Tensor) -> torch.Tensor:
    norm: torch.Tensor = torch.linalg.vector_norm(values, dtype=torch.float64)
    return norm.square()
