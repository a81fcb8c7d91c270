"""Held-out loss per source, in the loop."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from pipelines.store import TokenStore
from training.config import EvaluationConfig
from training.model import causal_loss


def evaluation_steps(steps: int, points: int) -> list[int]:
    """Steps after which to measure: 0 (the base), 1, 2, 4, 8, ... until as wide as the even spacing, then evenly; last: the end.

    Args:
        steps: optimiser steps of the run.
        points: even measurements over the whole run.
    """
    even = max(1, steps // points)
    chosen = {0, steps, *range(even, steps - even // 2, even)}  # the last even one may stand beside the end
    step = 1
    while step < min(even, steps):
        chosen.add(step)
        step *= 2
    return sorted(chosen)


class HeldOut:
    """The first windows of each source's held-out stream (its documents are in hash order, so this is a random sample).

    Args:
        micro_batch: rows of one forward pass.
    """

    def __init__(self, store: TokenStore, config: EvaluationConfig, *, length: int, micro_batch: int) -> None:
        self._micro_batch = micro_batch
        self.windows: dict[str, torch.Tensor] = {}
        self._bytes_per_token: dict[str, float] = {}
        for name in config.sources or sorted(store.manifest.sources):
            stream = store.stream(name, "heldout")
            count = min(config.sequences, stream.tokens // length)
            if count:
                indices = np.arange(count, dtype=np.int64)
                self.windows[name] = torch.from_numpy(store.windows(name, indices, length, "heldout"))
                self._bytes_per_token[name] = stream.bytes / stream.tokens

    @torch.no_grad()
    def measure(self, model: Any, *, rank: int, world: int, device: torch.device) -> dict[str, float]:
        """``heldout/<source>/loss`` (nats per token) and ``.../bits_per_byte`` (by the stream's own bytes per token).

        Every rank takes every ``world``-th window; all ranks must call this together.
        """
        was_training = model.training
        model.eval()
        metrics: dict[str, float] = {}
        for name, windows in self.windows.items():
            # Under ZeRO-3 all ranks must run equally many forward passes, so the last rows may be stand-ins of weight 0.
            rows = torch.arange(rank, math.ceil(len(windows) / world) * world, world)
            weights = (rows < len(windows)).to(device, torch.float64)
            mine = windows[rows.clamp(max=len(windows) - 1)]
            total, size = torch.zeros((), dtype=torch.float64, device=device), self._micro_batch
            for part, weight in zip(mine.split(size), weights.split(size), strict=True):  # type: ignore[no-untyped-call]
                losses = causal_loss(model, part.to(device), reduction="none").view(part.shape)
                total += (losses.double().sum(dim=1) * weight).sum()
            if world > 1:
                dist.all_reduce(total)
            loss_per_token = float(total) / (len(windows) * (windows.shape[1] - 1))
            metrics[f"heldout/{name}/loss"] = loss_per_token
            metrics[f"heldout/{name}/bits_per_byte"] = loss_per_token / math.log(2) / self._bytes_per_token[name]
        model.train(was_training)
        return metrics
