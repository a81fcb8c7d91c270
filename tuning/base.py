"""What the base model scores before any trial, and how sure that is."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ground.files import canonical_json, digest_bytes, write_atomic
from training.job import Job as TrainingJob

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Base:
    """Held-out metrics of the base model."""

    measured: Mapping[str, float]
    """``heldout/<source>/loss`` and so on."""
    errors: Mapping[str, float]
    """Standard error of each source's loss over its held-out sequences, nats per token."""

    def general_error(self, parts: Mapping[str, float]) -> float:
        """Standard error of a weighted mean of the sources' losses.

        Args:
            parts: weights by source.
        """
        known = {name: part for name, part in parts.items() if name in self.errors}
        whole = sum(known.values())
        return math.sqrt(sum((part / whole * self.errors[name]) ** 2 for name, part in known.items())) if whole else 0.0


def measure_base(job: TrainingJob, device: torch.device) -> Base:
    """Evaluate the job's base model as its trials will be evaluated.

    Raises:
        UserError: the base cannot be loaded, or does not fit the store.
    """
    import torch

    from training.engine import resolve_precision
    from training.evaluation import HeldOut
    from training.model import build_model, causal_loss

    store, settings = job.open_store(), job.training
    model = build_model(
        job.model,
        vocabulary=store.manifest.vocabulary,
        end_of_document=store.manifest.end_of_document,
        seed=job.seed,
        checkpointing=False,
    )
    types = {"bf16": torch.bfloat16, "fp16": torch.float16}
    model = model.to(device, types.get(resolve_precision(settings, device), torch.float32)).eval()
    apart, size = settings.document_masking, settings.micro_batch
    held_out = HeldOut(store, job.evaluation, length=settings.sequence_length, micro_batch=size, documents=apart)
    measured = held_out.measure(model, rank=0, world=1, device=device)
    errors = {}
    with torch.no_grad():
        for name, windows in held_out.windows.items():
            sums, targets = [], []
            for part in windows.split(size):
                rows = part.to(device)
                losses = causal_loss(model, rows.tokens, "none", targets=rows.targets, positions=rows.positions)
                sums += losses.view(rows.tokens.shape).double().sum(dim=1).tolist()
                targets += [row.count_targets() for row in part.split(1)]
            errors[name] = _ratio_error(sums, targets)
    return Base(measured, errors)


def _ratio_error(sums: list[float], counts: list[int]) -> float:
    """Standard error of sum(sums) / sum(counts) over independent rows (linearised ratio estimator)."""
    n, whole = len(sums), sum(counts)
    if n < 2 or not whole:
        return 0.0
    mean = sum(sums) / whole
    return math.sqrt(n / (n - 1) * sum((s - mean * c) ** 2 for s, c in zip(sums, counts, strict=True))) / whole


def base_key(job: TrainingJob) -> str:
    """What a measurement of the base depends on."""
    identity: dict[str, Any] = job.identity()
    kept = {name: identity[name] for name in ("store_digest", "model", "evaluation", "base_digest")}
    kept["training"] = {name: identity["training"][name] for name in ("sequence_length", "precision")}
    return digest_bytes(canonical_json(kept))


def load_base(path: Path, job: TrainingJob) -> Base | None:
    """The measurement kept in a file, if it is of this base, store and evaluation."""
    if not path.is_file():
        return None
    try:
        kept = json.loads(path.read_text())
        return Base(kept["measured"], kept["errors"]) if kept["key"] == base_key(job) else None
    except (ValueError, KeyError, TypeError):
        return None  # measured again


def save_base(path: Path, job: TrainingJob, base: Base) -> None:
    """Keep a measurement."""
    write_atomic(path, canonical_json({"key": base_key(job), **asdict(base)}))
