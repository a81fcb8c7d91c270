"""Running the training core in this process, without Ray."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from pipelines.config import MixtureConfig
from pipelines.store import TokenStore
from training.config import Architecture, EvaluationConfig, ModelConfig, TrainingConfig
from training.control import Control
from training.job import Job, Outcome, Record
from training.loop import train

TINY = Architecture(hidden_size=32, layers=2, heads=4, kv_heads=2, intermediate_size=64, max_positions=64)

TIMED = ("train/tokens_per_second", "train/mfu", "train/data_wait")
"""Metrics that differ between runs that are equal otherwise."""


@dataclass
class ListReporter:
    """Keeps records and notices in lists."""

    records: list[Record] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def record(self, record: Record) -> None:
        self.records.append(record)

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def curve(self, name: str) -> list[float]:
        return [r["metrics"][name] for r in self.records if name in r["metrics"]]


def ensure_process_group() -> None:
    """A gloo group of one process, left in place for later runs (a second DeepSpeed engine needs it)."""
    if dist.is_initialized():
        return
    os.environ.update(LOCAL_RANK="0", RANK="0", WORLD_SIZE="1")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{tempfile.mkdtemp()}/rendezvous", rank=0, world_size=1)


def tiny_job(store: TokenStore, folder: Path, **changes: Any) -> Job:
    """A job of a few seconds; ``changes`` replace fields of the training section or whole sections."""
    training: dict[str, Any] = {
        "sequence_length": 64,
        "global_batch_tokens": 512,
        "micro_batch": 4,
        "learning_rate": 3e-3,
        "zero_stage": 1,
        "accelerator": "cpu",
        "threads": 1,
    }
    sections: dict[str, Any] = {
        "name": "tiny",
        "folder": str(folder),
        "seed": 7,
        "store": str(store.path),
        "store_digest": store.digest,
        "mixture": MixtureConfig(),
        "model": ModelConfig(init="random", architecture=TINY),
        "evaluation": EvaluationConfig(points=5, sequences=8),
    }
    for key, value in changes.items():
        (sections if key in sections else training)[key] = value
    return Job(training=TrainingConfig(**training), **sections)


def run_tiny(
    store: TokenStore,
    folder: Path,
    *,
    resume: Path | None = None,
    control: Control | None = None,
    until: int | None = None,
    **changes: Any,
) -> tuple[ListReporter, Outcome]:
    """Train ``tiny_job`` in ``folder`` on this process alone."""
    ensure_process_group()
    folder.mkdir(parents=True, exist_ok=True)
    reporter = ListReporter()
    job = tiny_job(store, folder, **changes)
    return reporter, train(job, reporter, device=torch.device("cpu"), resume=resume, control=control, until=until)
