"""What one run is: everything that determines it, in one value that travels to the workers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ground.config import Section
from ground.files import canonical_json, digest_bytes
from pipelines.config import MixtureConfig
from pipelines.plan import Plan
from pipelines.store import TokenStore
from pipelines.store_cache import cache_in
from training.config import EvaluationConfig, ModelConfig, TrainingConfig

Record = dict[str, Any]
"""``{"step", "tokens", "time_ms", "metrics": {name: value}}``: one point of several curves."""

# Settings that change how fast a run goes, not what it computes: a run may be continued with others. Another number of
# workers sums the same gradients in another order: the same batches, losses equal to rounding.
_INCIDENTAL = {
    "training": {
        "workers",
        "min_workers",
        "max_failures",
        "keep_checkpoints",
        "keep_best",
        "keep_every_tokens",
        "checkpoint_mirror",
        "watchdog_s",
        "checkpoint_tokens",
        "peak_flops",
        "threads",
        "gpu",
        "log_steps",
        "alarms",
    },
    "evaluation": {"tasks", "tasks_data", "tasks_limit"},
}


_PLACES = ("folder", "store", "cache_folder", "cache_gb", "allowed_digests")
"""Fields that say where, not what."""


class Job(Section):
    """One training run."""

    name: str
    folder: str
    """Where its checkpoints, metrics and model go; on a cluster, shared storage."""
    seed: int
    store: str
    """Folder of the token store."""
    store_digest: str
    mixture: MixtureConfig
    model: ModelConfig
    """With a local base as an absolute path, since workers run elsewhere."""
    base_digest: str | None = None
    """Digest of a local base's files."""
    training: TrainingConfig
    evaluation: EvaluationConfig
    cache_folder: str | None = None
    """On every node: a copy of the pieces of the store that it reads; None: they are read where they lie."""
    cache_gb: float = 100.0
    """Most that the cache holds, 10^9 bytes."""
    allowed_digests: tuple[str, ...] = ()
    """Digests of the settings that the run had before its user allowed a change: its checkpoints may bear them."""

    def build_plan(self, store: TokenStore) -> Plan:
        """The run's plan over its store."""
        return Plan(
            store.sizes,
            self.mixture,
            sequence_length=self.training.sequence_length,
            batch_sequences=self.training.batch_sequences,
            seed=self.seed,
        )

    def identity(self) -> dict[str, Any]:
        """What determines the run's numbers, as plain values."""
        identity = self.model_dump(mode="json", exclude={**dict.fromkeys(_PLACES, True), **_INCIDENTAL})
        if self.base_digest:
            identity["model"]["base"] = self.base_digest  # the same base elsewhere is the same run
        return identity

    def open_store(self) -> TokenStore:
        """The token store, through the node's cache where there is one.

        Raises:
            UserError: there is no complete store, or its URL refuses.
            CorruptError: something does not match its checksum.
        """
        from pipelines.store_remote import open_store

        return open_store(self.store, cache_in(self.cache_folder, self.cache_gb))

    def digest(self) -> str:
        """Digest of the identity."""
        return digest_bytes(canonical_json(self.identity()))

    def accepts(self, digest: str) -> bool:
        """Whether the run may go on from a checkpoint of a job with this digest."""
        return digest == self.digest() or digest in self.allowed_digests


class Reporter(Protocol):
    """Where the core reports to: Ray Train, a Tune trial, or a list in a test."""

    def record(self, record: Record) -> None:
        """Take one record (rank 0 only)."""

    def notice(self, text: str) -> None:
        """Tell the user one line (rank 0 only)."""


@dataclass(frozen=True)
class Outcome:
    """What a finished run leaves behind."""

    steps: int
    tokens: int
    model: Path
    """Hugging Face folder of the final model."""
    seconds: float
    """Time spent in optimiser steps, over all starts."""
