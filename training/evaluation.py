"""Held-out loss per source, in the loop."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from pipelines.store import TokenStore
from training.config import EvaluationConfig
from training.feed import Rows, read_rows
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

    A source whose windows hold no target at all has no loss and is left out, as one without held-out windows is.

    Args:
        micro_batch: rows of one forward pass.
        documents: tell documents apart, as training does.
    """

    def __init__(
        self, store: TokenStore, config: EvaluationConfig, *, length: int, micro_batch: int, documents: bool = False
    ) -> None:
        self._micro_batch = micro_batch
        self.windows: dict[str, Rows] = {}
        self._bytes_per_token: dict[str, float] = {}
        for name in config.sources or sorted(store.manifest.sources):
            stream = store.stream(name, "heldout")
            indices = np.arange(min(config.sequences, stream.tokens // length), dtype=np.int64)
            windows = read_rows(store, name, indices, length, "heldout", documents=documents)
            if windows.count_targets():
                self.windows[name] = windows
                self._bytes_per_token[name] = stream.bytes / stream.tokens

    @torch.no_grad()
    def measure(self, model: Any, *, rank: int, world: int, device: torch.device) -> dict[str, float]:
        """``heldout/<source>/loss`` (nats per token) and ``.../bits_per_byte`` (by the stream's own bytes per token).

        Of a source with a target mask the loss is the mean over its targets, taken to be as long as its other tokens.

        Every rank takes every ``world``-th window; all ranks must call this together.
        """
        was_training = model.training
        model.eval()
        metrics: dict[str, float] = {}
        for name, windows in self.windows.items():
            # Under ZeRO-3 all ranks must run equally many forward passes, so the last rows may be stand-ins of weight 0.
            rows = torch.arange(rank, math.ceil(len(windows) / world) * world, world)
            weights = (rows < len(windows)).to(device, torch.float64)
            mine = windows.take(rows.clamp(max=len(windows) - 1))
            total, size = torch.zeros((), dtype=torch.float64, device=device), self._micro_batch
            for part, weight in zip(mine.split(size), weights.split(size), strict=True):  # type: ignore[no-untyped-call]
                here = part.to(device)
                losses = causal_loss(model, here.tokens, "none", targets=here.targets, positions=here.positions)
                total += (losses.view(here.tokens.shape).double().sum(dim=1) * weight).sum()
            if world > 1:
                dist.all_reduce(total)
            loss_per_token = float(total) / windows.count_targets()
            metrics[f"heldout/{name}/loss"] = loss_per_token
            metrics[f"heldout/{name}/bits_per_byte"] = loss_per_token / math.log(2) / self._bytes_per_token[name]
        model.train(was_training)
        return metrics
