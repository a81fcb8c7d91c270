"""One measurement on one device: ``python -m benchmarks.gpu_cases CASE.json RESULT.json``, always a process of its own.

A case takes a few steps to warm up (torch.compile compiles, memory is allocated), then times the others.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from benchmarks.sample import random_store
from ground.files import canonical_json, write_atomic
from pipelines.config import MixtureConfig
from pipelines.store import TokenStore
from training.config import Architecture, EvaluationConfig, ModelConfig, TrainingConfig
from training.evaluation import evaluation_steps
from training.feed import Feed
from training.flops import device_peak, flops_per_token, parameter_count
from training.job import Job, Record
from training.model import build_model, causal_loss

WARM_UP = 4
_NEVER = 1 << 60


@dataclass(frozen=True)
class Model:
    """A model and the batch it is trained with."""

    shape: Architecture
    vocabulary: int
    length: int
    batch_tokens: int
    micro_batch: int
    """Sequences; halved until it fits."""


MODELS = {
    # TinyLlama (Zhang et al. 2024) and SmolLM2-135M (Ben Allal et al. 2025).
    "1.1b": Model(
        Architecture(hidden_size=2048, layers=22, heads=32, kv_heads=4, intermediate_size=5632, tied_embeddings=False),
        vocabulary=32_000,
        length=2048,
        batch_tokens=65_536,
        micro_batch=8,
    ),
    "135m": Model(
        Architecture(hidden_size=576, layers=30, heads=9, kv_heads=3, intermediate_size=1536),
        vocabulary=49_152,
        length=2048,
        batch_tokens=131_072,
        micro_batch=16,
    ),
    "smoke": Model(
        Architecture(hidden_size=64, layers=2, heads=4, intermediate_size=128, max_positions=64),
        vocabulary=512,
        length=64,
        batch_tokens=512,
        micro_batch=4,
    ),
}


@dataclass(frozen=True)
class Case:
    """What is measured."""

    model: str
    """Of ``MODELS``."""
    program: Literal["steady", "plain"]
    stage: int
    """ZeRO stage of Steady."""
    compile: bool
    micro_batch: int
    steps: int
    """Warm-up included."""
    via: Literal["ray", "core"] = "ray"
    """Steady only: under Ray Train, or its core alone."""

    @property
    def label(self) -> str:
        """Name of the row, without the model's."""
        compiled = "compiled" if self.compile else "not compiled"
        return f"plain PyTorch, {compiled}" if self.program == "plain" else f"Steady, ZeRO {self.stage}, {compiled}"


def measure(case: Case) -> dict[str, object]:
    """Run a case on the GPU if there is one, else on the CPU.

    Returns:
        The case's own fields, ``tokens_per_s``, ``mfu`` (None where the device's peak is unknown), ``step_s``, ``device``
        and ``parameters``.
    """
    model = MODELS[case.model]
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    with tempfile.TemporaryDirectory() as scratch:
        store = random_store(
            Path(scratch) / "store",
            {"domain": ("domain", case.steps * model.batch_tokens), "general": ("general", model.batch_tokens)},
            vocabulary=model.vocabulary,
            heldout=4 * model.length,
        )
        job = _job(case, store, Path(scratch) / "run", on_gpu=device.type == "cuda")
        run = _plain if case.program == "plain" else _steady
        seconds = run(case, job, device)
    rate = model.batch_tokens * len(seconds) / sum(seconds)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    peak = device_peak(name, bf16=True) if device.type == "cuda" else None
    flops = flops_per_token(model.shape, model.vocabulary, model.length)
    return dataclasses.asdict(case) | {
        "label": case.label,
        "tokens_per_s": rate,
        "mfu": rate * flops / peak if peak else None,
        "step_s": model.batch_tokens / rate,
        "steps_timed": len(seconds),
        "device": name,
        "parameters": parameter_count(model.shape, model.vocabulary),
        "torch": torch.__version__,
    }


def _job(case: Case, store: TokenStore, folder: Path, *, on_gpu: bool) -> Job:
    model = MODELS[case.model]
    return Job(
        name="gpu",
        folder=str(folder),
        seed=1,
        store=str(store.path),
        store_digest=store.digest,
        mixture=MixtureConfig(subset_tokens=case.steps * model.batch_tokens, shares={"domain": 0.9, "general": 0.1}),
        model=ModelConfig(init="random", architecture=model.shape),
        training=TrainingConfig(
            sequence_length=model.length,
            global_batch_tokens=model.batch_tokens,
            micro_batch=case.micro_batch,
            accelerator="gpu" if on_gpu else "cpu",
            threads=None if on_gpu else 1,
            zero_stage=case.stage,
            compile=case.compile,
            learning_rate=3e-4,
            checkpoint_tokens=_NEVER,
        ),
        evaluation=EvaluationConfig(points=1, sequences=1, layer_updates=False),
    )


def _steady(case: Case, job: Job, device: torch.device) -> list[float]:
    """Seconds of each counted step, from record to record."""
    records: list[Record] = []
    if case.via == "ray":
        from cluster.session import session
        from training.launch import launch

        with session():
            launch(job, records.append, use_gpu=device.type == "cuda")
    else:
        _core(job, records, device)
    ends = {r["step"]: r["time_ms"] / 1000 for r in records if "train/loss" in r["metrics"]}
    # An evaluation after step s falls into the interval of step s + 1.
    uncounted = {step + 1 for step in evaluation_steps(case.steps, job.evaluation.points)} | set(range(WARM_UP + 1))
    return [ends[step] - ends[step - 1] for step in ends if step - 1 in ends and step not in uncounted]


class _Listener:
    def __init__(self, records: list[Record]) -> None:
        self._records = records

    def record(self, record: Record) -> None:
        self._records.append(record)

    def notice(self, text: str) -> None:
        print(text, file=sys.stderr)


def _core(job: Job, records: list[Record], device: torch.device) -> None:
    import torch.distributed as dist

    from training.loop import train

    os.environ.update(LOCAL_RANK="0", RANK="0", WORLD_SIZE="1")
    backend = "nccl" if device.type == "cuda" else "gloo"
    Path(job.folder).mkdir(parents=True, exist_ok=True)
    dist.init_process_group(backend, init_method=f"file://{job.folder}/rendezvous", rank=0, world_size=1)
    train(job, _Listener(records), device=device)


def _plain(case: Case, job: Job, device: torch.device) -> list[float]:
    """Seconds of each counted step of a plain loop: fp32 weights, bf16 autocast on GPU, the whole loss compiled."""
    settings, on_gpu = job.training, device.type == "cuda"
    store = TokenStore.open(job.store)
    torch.set_float32_matmul_precision("high")
    model = build_model(
        job.model, vocabulary=MODELS[case.model].vocabulary, end_of_document=0, seed=job.seed, checkpointing=False
    )
    model.to(device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        weight_decay=settings.weight_decay,
        fused=True,
    )
    plan = job.build_plan(store)
    feed = Feed(store, plan, rank=0, world=1, micro_batch=case.micro_batch)
    batches = [[rows.tokens.to(device) for rows in feed.micro_batches(step)] for step in range(plan.steps)]

    def loss_of(tokens: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=on_gpu):
            return causal_loss(model, tokens)

    compiled = torch.compile(loss_of) if case.compile else loss_of
    seconds = []
    for step, batch in enumerate(batches):
        started = time.perf_counter()
        losses = []
        for tokens in batch:
            loss = compiled(tokens)
            (loss / len(batch)).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        float(torch.stack(losses).mean())  # waits for the device, as reading the loss does anywhere
        if step >= WARM_UP:
            seconds.append(time.perf_counter() - started)
    return seconds


def main(case_file: Path, result_file: Path) -> None:
    """Measure the case in one file, write the row to another."""
    case = Case(**json.loads(case_file.read_text()))
    write_atomic(result_file, canonical_json(measure(case)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
