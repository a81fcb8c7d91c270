"""From the plan to tensors: this worker's rows of each global batch, and where their loss counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.mix_rows import has_targets
from pipelines.plan import Plan
from pipelines.store import Split, TokenStore


@dataclass(frozen=True)
class Rows:
    """Sequences and what the loss needs to know of them."""

    tokens: torch.Tensor
    """Token ids, int64 [rows, L]."""
    targets: torch.Tensor | None = None
    """Tokens whose prediction is learned, bool [rows, L]; None: all. The first of a row is never predicted."""
    positions: torch.Tensor | None = None
    """Position in the document, int64 [rows, L]: 0 at its start and at the start of a row. None: documents are not told
    apart."""

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, index: torch.Tensor | slice) -> Rows:
        """Some of the rows, by number or as a slice."""
        targets = None if self.targets is None else self.targets[index]
        return Rows(self.tokens[index], targets, None if self.positions is None else self.positions[index])

    def split(self, size: int) -> Iterator[Rows]:
        """The rows in order, ``size`` at a time."""
        for first in range(0, len(self), size):
            yield self.take(slice(first, first + size))

    def to(self, device: torch.device) -> Rows:
        """The same rows on another device."""
        here = (self.tokens, self.targets, self.positions)
        tokens, targets, positions = (None if x is None else x.to(device, non_blocking=True) for x in here)
        assert tokens is not None
        return Rows(tokens, targets, positions)

    def pinned(self) -> Rows:
        """The same rows in page-locked memory."""
        tokens, targets, positions = (
            None if x is None else x.pin_memory() for x in (self.tokens, self.targets, self.positions)
        )
        assert tokens is not None
        return Rows(tokens, targets, positions)

    def count_targets(self) -> int:
        """Predictions whose loss counts: at most rows x (L - 1)."""
        return self.tokens[:, 1:].numel() if self.targets is None else int(self.targets[:, 1:].sum())


class Feed:
    """Rows of global batch t for one of ``world`` workers, in micro-batches.

    Invariant: joining the rows of all ranks in order gives the plan's batch for every world size and micro-batch.

    Args:
        documents: tell documents apart, so that attention and positions stay within them.

    Raises:
        ValueError: the batch does not divide by world x micro-batch.
    """

    def __init__(
        self, store: TokenStore, plan: Plan, *, rank: int, world: int, micro_batch: int, documents: bool = False
    ) -> None:
        if plan.batch_sequences % (world * micro_batch):
            raise ValueError(f"batch of {plan.batch_sequences} sequences does not divide by {world} x {micro_batch}")
        self._store, self._plan, self._micro_batch = store, plan, micro_batch
        rows = plan.batch_sequences // world
        self._rows = slice(rank * rows, (rank + 1) * rows)
        self._masked, self._documents = has_targets(store, plan), documents

    def micro_batches(self, step: int) -> Iterator[Rows]:
        """This worker's part of batch ``step``, ``micro_batch`` rows at a time.

        ``targets`` is there when a source of the plan has a target mask, all true for the rows of the others.
        """
        batch, length = self._plan.batch(step), self._plan.sequence_length
        source, sequence = batch.source[self._rows], batch.sequence[self._rows]
        shape = (len(source), length)
        tokens = np.empty(shape, dtype=np.int64)
        targets = np.empty(shape, dtype=np.bool_) if self._masked else None
        positions = np.empty(shape, dtype=np.int64) if self._documents else None
        for index in np.unique(source).tolist():
            mine, name = source == index, self._plan.sources[index]
            tokens[mine] = self._store.windows(name, sequence[mine], length)
            if targets is not None:
                targets[mine] = self._store.targets(name, sequence[mine], length)
            if positions is not None:
                positions[mine] = document_positions(self._store, name, sequence[mine], length)
        yield from Rows(torch.from_numpy(tokens), _tensor(targets), _tensor(positions)).split(self._micro_batch)

    def target_weight(self, step: int) -> float | None:
        """What the loss of one target of batch ``step`` counts, so that the batch's loss is the mean over its targets.

        The mean of the micro-batches' own means would be another number for every world size and micro-batch, since they
        hold unequally many targets. DeepSpeed divides a loss by the micro-batches of a rank (``engine.backward``) and
        averages gradients over ranks, hence

            weight = micro-batches of all ranks / targets of the global batch

        0 if the batch has no target: its loss and gradients are 0, not 0/0, and the update is that of a zero gradient (the
        optimiser's momentum and weight decay go on). None if no source of the plan has a mask: then all micro-batches have
        equally many targets, and their means serve.

        Every rank reads the masks of the whole batch, a byte a token, instead of waiting for the others to count.
        """
        if not self._masked:
            return None
        batch, length = self._plan.batch(step), self._plan.sequence_length
        count = 0
        for index in np.unique(batch.source).tolist():
            sequence, name = batch.sequence[batch.source == index], self._plan.sources[index]
            if self._store.has_targets(name):
                count += int(self._store.targets(name, sequence, length)[:, 1:].sum())
            else:
                count += len(sequence) * (length - 1)
        return self._plan.batch_sequences / self._micro_batch / count if count else 0.0


def read_rows(
    store: TokenStore, source: str, indices: NDArray[np.int64], length: int, split: Split, *, documents: bool
) -> Rows:
    """Windows of one source; ``targets`` only if it has a mask, ``positions`` only if ``documents``."""
    targets = store.targets(source, indices, length, split) if store.has_targets(source, split) else None
    positions = document_positions(store, source, indices, length, split) if documents else None
    return Rows(torch.from_numpy(store.windows(source, indices, length, split)), _tensor(targets), _tensor(positions))


def document_positions(
    store: TokenStore, source: str, indices: NDArray[np.int64], length: int, split: Split = "train"
) -> NDArray[np.int64]:
    """Distance of each token from the start of its document or, where that lies before the window, from the window's.

    Returns:
        int64 [len(indices), length]; with starts at 2 and 5 of 7: ``0 1 0 1 2 0 1``.
    """
    here = np.arange(length, dtype=np.int64)
    starts = np.zeros((len(indices), length), dtype=np.int64)
    for row, found in zip(starts, store.document_starts(source, indices, length, split), strict=True):
        row[found] = found
    return here - np.maximum.accumulate(starts, axis=1)


def _tensor(array: NDArray[np.generic] | None) -> torch.Tensor | None:
    return None if array is None else torch.from_numpy(array)
