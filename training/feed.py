"""From the plan to tensors: this worker's rows of each global batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from pipelines.plan import Plan
from pipelines.store import TokenStore


class Feed:
    """Rows of global batch t for one of ``world`` workers, in micro-batches.

    Invariant: joining the rows of all ranks in order gives the plan's batch for every world size and micro-batch.

    Raises:
        ValueError: the batch does not divide by world x micro-batch.
    """

    def __init__(self, store: TokenStore, plan: Plan, *, rank: int, world: int, micro_batch: int) -> None:
        if plan.batch_sequences % (world * micro_batch):
            raise ValueError(f"batch of {plan.batch_sequences} sequences does not divide by {world} x {micro_batch}")
        self._store, self._plan, self._micro_batch = store, plan, micro_batch
        rows = plan.batch_sequences // world
        self._rows = slice(rank * rows, (rank + 1) * rows)

    def micro_batches(self, step: int) -> Iterator[torch.Tensor]:
        """Token ids of this worker's part of batch ``step``: int64 tensors of shape [micro_batch, L]."""
        batch = self._plan.batch(step)
        source, sequence = batch.source[self._rows], batch.sequence[self._rows]
        length = self._plan.sequence_length
        tokens = np.empty((len(source), length), dtype=np.int64)
        for index in np.unique(source).tolist():
            mine = source == index
            tokens[mine] = self._store.windows(self._plan.sources[index], sequence[mine], length)
        yield from torch.split(torch.from_numpy(tokens), self._micro_batch)
