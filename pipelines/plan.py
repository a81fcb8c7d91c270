"""The plan: a pure function from step number to sequence ids. No data, no Ray, no state; a few hundred bytes.

Positions 0..N-1 number the sequences of the whole run; batch t is positions t*B..(t+1)*B-1; epoch e is positions
e*P..(e+1)*P-1, where P = S // L is the size of the pool. The interleaving says which source a position belongs to, and
counting says the how-many-th of its source it is. From there permutations lead to the sequence id:

    domain    ordinal j within epoch e  ->  pool slot   once:  fixed[fresh_e[j]]
                                                        epoch: fresh_e[j]              (a permutation of the pool per epoch)
                                                        cycle: fixed[(start_e + shuffle_e[j]) mod pool]
              pool slot  ->  sequence id                quality: the slot itself (the store is ranked best first)
                                                        random:  a seeded permutation of all sequences, its prefix
    general   ordinal c over the run    ->  sequence id shuffle_k[c mod M], k = c // M  (M sequences; repeats when exhausted)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ground.errors import UserError
from pipelines.config import MixtureConfig, Role
from pipelines.interleave import Interleaving, exact_counts
from pipelines.permutation import Indices, Permutation, derive_key

_CHUNK_POSITIONS = (
    1 << 15
)  # working arrays of 256 KiB stay in the second-level cache; 8,192 positions take 1.6 times as long


@dataclass(frozen=True)
class SourceSize:
    """What a plan needs to know of a source in the store."""

    role: Role
    tokens: int
    """Training tokens (held-out documents not counted)."""


@dataclass(frozen=True)
class Batch:
    """The sequences of one global batch, in order."""

    source: NDArray[np.int64]
    """[B] index into ``Plan.sources``."""
    sequence: NDArray[np.int64]
    """[B] index of the window of L tokens within the source."""


@dataclass(frozen=True)
class SourceUse:
    """How a plan uses one source, over the whole run."""

    name: str
    role: Role
    share: float
    tokens: int
    """Tokens seen, repeats counted."""
    unique_tokens: int
    """Different tokens seen (for ``redraw: epoch`` the expected number)."""

    @property
    def repetition(self) -> float:
        """Times an average token is seen."""
        return self.tokens / self.unique_tokens if self.unique_tokens else 0.0


class Plan:
    """Which sequence stands at which position of a run.

    Invariant: depends only on (sizes, mixture, L, B, seed), never on world size, micro-batch, restarts or time.

    Args:
        sizes: size and role of every source of the store.
        mixture: the view.
        sequence_length: L, tokens.
        batch_sequences: B, sequences in a global batch.
        seed: chooses the permutations, together with the source names.

    Raises:
        UserError: unknown source, shares that do not sum to 1, subset larger than the store, a repetition above the limit,
            fewer than one batch.
    """

    def __init__(
        self,
        sizes: Mapping[str, SourceSize],
        mixture: MixtureConfig,
        *,
        sequence_length: int,
        batch_sequences: int,
        seed: int,
    ) -> None:
        shares = _resolve_shares(sizes, mixture)
        counts = exact_counts(shares)
        self.sources = tuple(sorted(shares))
        self.mixture, self.seed = mixture, seed
        self.sequence_length, self.batch_sequences = sequence_length, batch_sequences
        self._interleaving = Interleaving(tuple(counts[name] for name in self.sources))
        self.shares = {name: counts[name] / self._interleaving.period for name in self.sources}
        self.requested_shares = dict(shares)
        self.roles = {name: sizes[name].role for name in self.sources}
        self._sequences = {name: sizes[name].tokens // sequence_length for name in self.sources}
        for name, sequences in self._sequences.items():
            if not sequences:
                raise UserError(
                    f"mixture.shares.{name}",
                    f"has {sizes[name].tokens:,} tokens, less than one sequence of {sequence_length:,}",
                    "drop it, add text to it or lower training.sequence_length",
                )

        domain_tokens = sum(sizes[name].tokens for name in self.sources if self.roles[name] == "domain")
        if mixture.subset_tokens is None and not domain_tokens:
            raise UserError(
                "mixture.subset_tokens",
                "is absent and the mixture has no domain source",
                "give the tokens of one epoch",
            )
        self.epoch_tokens = mixture.subset_tokens or domain_tokens
        self.epoch_sequences = self._epoch_size()
        self.total_sequences = int(self.epoch_sequences * mixture.epochs)
        self.steps = self.total_sequences // batch_sequences
        if self.steps < 1:
            raise UserError(
                "mixture",
                f"{self.epoch_tokens:,} tokens x {mixture.epochs:g} epochs are less than one global batch of "
                f"{batch_sequences * sequence_length:,} tokens",
                "raise mixture.subset_tokens or lower training.global_batch_tokens",
            )
        self._pools = self._domain_pools(sizes)
        self._check_repetition()

    def batch(self, step: int) -> Batch:
        """The global batch of optimiser step ``step`` (0-based)."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} is outside 0..{self.steps - 1}")
        first = step * self.batch_sequences
        return self.at(np.arange(first, first + self.batch_sequences, dtype=np.int64))

    def batches(self, steps: Indices) -> Batch:
        """The global batches of many steps at once: arrays of shape [len(steps), B]."""
        within = np.arange(self.batch_sequences, dtype=np.int64)
        chunk = max(1, _CHUNK_POSITIONS // self.batch_sequences)
        parts = [
            self.at(steps[i : i + chunk, None] * self.batch_sequences + within) for i in range(0, len(steps), chunk)
        ]
        return Batch(np.concatenate([part.source for part in parts]), np.concatenate([part.sequence for part in parts]))

    def at(self, positions: Indices) -> Batch:
        """Source and sequence at any positions of the run; any shape, values in 0..total_sequences-1."""
        source = self._interleaving.sources(positions)
        sequence = np.empty_like(positions)
        for index, name in enumerate(self.sources):
            mine = source == index
            if not mine.any():
                continue
            here = positions[mine]
            ordinal = self._interleaving.count_many(index, here)
            if self.roles[name] == "domain":
                sequence[mine] = self._domain(index, name, here, ordinal)
            else:
                sequence[mine] = self._general(name, ordinal)
        return Batch(source, sequence)

    @property
    def total_tokens(self) -> int:
        """Tokens trained on: whole global batches only."""
        return self.steps * self.batch_sequences * self.sequence_length

    def use(self) -> list[SourceUse]:
        """Tokens, unique tokens and share of every source over the steps of the run."""
        end = self.steps * self.batch_sequences
        uses = []
        for index, name in enumerate(self.sources):
            seen = self._interleaving.count(index, end)
            unique = (
                self._unique_domain(index, name, seen)
                if self.roles[name] == "domain"
                else min(seen, self._sequences[name])
            )
            length = self.sequence_length
            uses.append(SourceUse(name, self.roles[name], self.shares[name], seen * length, round(unique * length)))
        return uses

    def describe(self) -> dict[str, Any]:
        """Everything that determines the plan, as plain JSON values (for digests, logs and the resume check)."""
        return {
            "mixture": self.mixture.model_dump(mode="json"),
            "sources": {name: self._sequences[name] for name in self.sources},
            "sequence_length": self.sequence_length,
            "batch_sequences": self.batch_sequences,
            "seed": self.seed,
            "steps": self.steps,
        }

    def _epoch_size(self) -> int:
        """P. Taking everything of several domain sources, the epoch stops where the first of them would repeat: shares are
        rounded and a prefix may run one sequence ahead, so the sizes do not fit to the last sequence."""
        size = self.epoch_tokens // self.sequence_length
        domain = self._domain_names()
        if self.mixture.subset_tokens is None and len(domain) > 1:
            size = min(size, *(int((self._sequences[name] - 2) / self._domain_part(name)) for name in domain))
        return max(size, 0)

    def _domain_names(self) -> list[str]:
        return [name for name in self.sources if self.roles[name] == "domain"]

    def _domain_part(self, name: str) -> float:
        """Share of a domain source among the domain sources."""
        return self.shares[name] / sum(self.shares[other] for other in self._domain_names())

    def _domain_pools(self, sizes: Mapping[str, SourceSize]) -> dict[str, int]:
        """Sequences in each domain source's pool: its part of S, in proportion to the shares among domain sources."""
        domain = self._domain_names()
        pools = {}
        for name in domain:
            part = self._domain_part(name) if len(domain) > 1 else 1.0
            wanted = self.epoch_sequences if len(domain) == 1 else math.ceil(self.epoch_sequences * part) + 1
            if wanted > self._sequences[name]:
                raise UserError(
                    "mixture.subset_tokens",
                    f"asks for the best {wanted * self.sequence_length:,} tokens of {name!r}, which has {sizes[name].tokens:,}",
                    f"lower it to at most {int((self._sequences[name] - 2) * self.sequence_length / part):,}",
                )
            pools[name] = wanted
        return pools

    def _check_repetition(self) -> None:
        for use in self.use():
            if use.repetition > self.mixture.max_repetition:
                raise UserError(
                    "mixture.max_repetition",
                    f"{use.name!r} would be seen {use.repetition:.1f} times, the limit is {self.mixture.max_repetition:g}",
                    f"add text to {use.name!r}, lower its share or the epochs, or raise the limit",
                )

    def _unique_domain(self, index: int, name: str, seen: int) -> float:
        pool = self._pools[name]
        epochs = self._epoch_counts(index)
        if self.mixture.redraw == "once":
            return max(epochs)
        if self.mixture.redraw == "cycle":
            return min(seen, pool)
        missed = 1.0
        for count in epochs:  # independent draws without replacement within each epoch
            missed *= 1 - count / pool
        return pool * (1 - missed)

    def _epoch_counts(self, index: int) -> list[int]:
        """Sequences of the source in each epoch of the run; the last may be partial."""
        end = self.steps * self.batch_sequences
        edges = [*range(0, end, self.epoch_sequences), end]
        return [self._interleaving.count(index, b) - self._interleaving.count(index, a) for a, b in pairwise(edges)]

    def _domain(self, index: int, name: str, positions: Indices, ordinal: Indices) -> Indices:
        pool = self._pools[name]
        redraw = self.mixture.redraw
        epochs = positions // self.epoch_sequences
        slots = np.empty_like(positions)
        for epoch in np.unique(epochs).tolist():
            mine = epochs == epoch
            start = self._interleaving.count(index, epoch * self.epoch_sequences)
            j = ordinal[mine] - start
            if redraw == "epoch":
                slots[mine] = self._permutation(pool, name, "epoch", epoch)(j)
                continue
            drawn = self._interleaving.count(index, (epoch + 1) * self.epoch_sequences) - start
            fixed = self._permutation(pool, name, "part", 0)
            if redraw == "once":
                slots[mine] = fixed(self._permutation(drawn, name, "order", epoch)(j))
                continue
            # What the pool has left of its current round comes before the next round, each shuffled in itself, so that
            # exposure is even in every prefix of the run.
            left = min(drawn, -start % pool)
            shuffled = np.empty_like(j)
            for round_, first, end in ((0, 0, left), (1, left, drawn)):
                here = (j >= first) & (j < end)
                if here.any():
                    order = self._permutation(end - first, name, f"order {round_}", epoch)
                    shuffled[here] = first + order(j[here] - first)
            slots[mine] = fixed((start + shuffled) % pool)
        if self.mixture.select == "quality":
            return slots
        return self._permutation(self._sequences[name], name, "subset", 0)(slots)

    def _general(self, name: str, ordinal: Indices) -> Indices:
        size = self._sequences[name]
        rounds = ordinal // size
        sequence = np.empty_like(ordinal)
        for round_ in np.unique(rounds).tolist():
            mine = rounds == round_
            sequence[mine] = self._permutation(size, name, "round", round_)(ordinal[mine] - round_ * size)
        return sequence

    def _permutation(self, size: int, name: str, purpose: str, number: int) -> Permutation:
        return _permutation(size, derive_key(self.seed, name, purpose, number))


@lru_cache(maxsize=4096)
def _permutation(size: int, key: int) -> Permutation:
    return Permutation(size, key)


def _resolve_shares(sizes: Mapping[str, SourceSize], mixture: MixtureConfig) -> dict[str, float]:
    usable = sorted(name for name, size in sizes.items() if size.role != "reference")
    shares = mixture.shares
    if shares is None:
        domain = {name: sizes[name].tokens for name in usable if sizes[name].role == "domain" and sizes[name].tokens}
        if not domain:
            raise UserError(
                "mixture.shares", "is absent and the store has no domain source", "give the share of each source"
            )
        return {name: tokens / sum(domain.values()) for name, tokens in domain.items()}
    for name in shares:
        if name not in usable:
            raise UserError(f"mixture.shares.{name}", "is no source of the store", f"use one of {', '.join(usable)}")
        if not sizes[name].tokens:
            raise UserError(
                f"mixture.shares.{name}", "has no tokens in the store", "drop it or loosen curation.filters"
            )
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise UserError(
            "mixture.shares",
            f"sum to {sum(shares.values()):.6g}",
            "make them sum to 1 (general sources fill what the domain leaves)",
        )
    return dict(shares)
