"""The training loop, whole. Plain Python on DeepSpeed: Ray Train, a Tune trial and a test all call ``train``."""

from __future__ import annotations

import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from ground.errors import UserError
from pipelines.permutation import derive_key
from pipelines.plan import Plan
from pipelines.store import TokenStore
from training.alarms import first_needed, new_alarms
from training.checkpoint import (
    Position,
    checkpoint_folder,
    choose_checkpoint,
    keep_newest,
    load_checkpoint,
    needs_conversion,
    read_position,
    read_records,
    require_whole,
    save_checkpoint,
)
from training.config import AlarmConfig
from training.engine import build_engine, gradient_norm, resolve_precision, set_learning_rate
from training.evaluation import HeldOut, evaluation_steps
from training.export import export_model
from training.feed import Feed
from training.flops import device_peak, flops_per_token, measure_cpu_peak
from training.freeze import freeze
from training.job import Job, Outcome, Record, Reporter
from training.model import build_model, model_shape, training_loss
from training.schedule import learning_rate
from training.updates import LayerUpdates

CHECKPOINTS = "checkpoints"
"""Folder of a run's checkpoints, below the run's own."""
_UNSETTLED_MS = 60_000  # records older than this have long been taken by the driver, which asks twice a second


def train(job: Job, reporter: Reporter, *, device: torch.device, resume: Path | None = None) -> Outcome:
    """Run ``job`` on this rank of the existing process group: from its newest whole checkpoint, or else from the base.

    Args:
        resume: a checkpoint to go on from instead.

    Raises:
        UserError: the checkpoint is of another run, store, base and mixture do not fit together, or the loss or its
            gradients are no longer finite.
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    settings = job.training
    store = TokenStore.open(job.store)
    if store.digest != job.store_digest:
        raise UserError("curation.store", "is not the store this run began with", "give the run another name")
    plan = job.build_plan(store)
    apart = settings.document_masking
    feed = Feed(store, plan, rank=rank, world=world, micro_batch=settings.micro_batch, documents=apart)
    model = build_model(
        job.model,
        vocabulary=store.manifest.vocabulary,
        end_of_document=store.manifest.end_of_document,
        seed=job.seed,
        checkpointing=settings.activation_checkpointing,
    )
    freeze(model, settings)
    length, size = settings.sequence_length, settings.micro_batch
    held_out = HeldOut(store, job.evaluation, length=length, micro_batch=size, documents=apart)
    checkpoints = Path(job.folder) / CHECKPOINTS
    resume, position = _where_to_begin(job, checkpoints, resume, reporter)
    convert = position is not None and needs_conversion(position)
    engine = build_engine(model, settings, world=world, device=device, convert_checkpoint=convert)
    updates = LayerUpdates(engine) if job.evaluation.layer_updates else None  # before the base is overwritten

    step, seconds, seen = 0, 0.0, Counter(dict.fromkeys(plan.sources, 0))
    recent: list[Record] = []  # rank 0: what the driver may not have on disk yet
    if resume is not None:
        position = load_checkpoint(engine, resume)
        step, seconds, seen = position.step, position.seconds, Counter(position.shares)
        recent = read_records(resume) if rank == 0 else []
        for kept in recent:
            reporter.record(kept)
    speed = _Speed(job, world, device, store.manifest.vocabulary)
    evaluate_at = set(evaluation_steps(plan.steps, job.evaluation.points))
    checkpoint_every = _steps_between(settings.checkpoint_tokens, settings.global_batch_tokens, plan.steps)

    def record(metrics: dict[str, float]) -> Record:
        tokens = step * settings.global_batch_tokens
        return {"step": step, "tokens": tokens, "time_ms": time.time_ns() // 1_000_000, "metrics": metrics}

    def report(metrics: dict[str, float]) -> None:
        if rank == 0:
            recent.append(record(metrics))
            reporter.record(recent[-1])

    if step == 0:
        report(held_out.measure(engine, rank=rank, world=world, device=device))
    while step < plan.steps:
        started = time.perf_counter()
        rate = learning_rate(settings.schedule, settings.learning_rate, step, plan.steps)
        set_learning_rate(engine, rate)
        torch.manual_seed(_seed_at(job.seed, step, rank))
        loss = _optimiser_step(engine, feed, step, device)
        seen.update(_sources_of(plan, step))
        step += 1
        logged = step % settings.log_steps == 0 or step == plan.steps
        mean = _mean_over_ranks(loss, world) if logged else 0.0  # reading the loss waits for the device
        if engine.skipped_steps or not math.isfinite(mean):
            # DeepSpeed skips an update whose gradients are not finite and goes on: nothing would be learned any more.
            report({"alarm/not_finite": 1.0})
            found = "the gradients are not finite" if math.isfinite(mean) else f"the loss is {mean}"
            raise UserError("training.learning_rate", f"{found} after step {step}", "lower the rate")
        elapsed = time.perf_counter() - started
        seconds += elapsed
        speed.add(elapsed)
        if logged:
            shares = {f"train/share/{name}": count / seen.total() for name, count in seen.items()}
            metrics = {"train/loss": mean, "train/learning_rate": rate} | gradient_norm(engine)
            for alarm in new_alarms([*recent, record(metrics)], settings.alarms) if rank == 0 else ():
                metrics |= alarm.metric()
            report(metrics | speed.metrics() | shares)
        if step in evaluate_at:
            measured = held_out.measure(engine, rank=rank, world=world, device=device)
            report(measured | (updates.measure(device) if updates else {}))
        if step % checkpoint_every == 0 and step < plan.steps:
            position = Position(
                step=step,
                tokens=step * settings.global_batch_tokens,
                seconds=seconds,
                job_digest=job.digest(),
                shares=dict(seen),
                world=world,
                zero_stage=settings.zero_stage,
            )
            save_checkpoint(engine, checkpoint_folder(checkpoints, step), position, recent)
            recent = _still_needed(recent, settings.alarms)
            if rank == 0:
                keep_newest(checkpoints, settings.keep_checkpoints)
    target = Path(job.folder) / "model"
    export_model(engine, store.tokenizer_path, target, zero_stage=settings.zero_stage)
    return Outcome(step, step * settings.global_batch_tokens, target, seconds)


def _where_to_begin(
    job: Job, checkpoints: Path, resume: Path | None, reporter: Reporter
) -> tuple[Path | None, Position | None]:
    """The checkpoint to go on from and where it stands; None and None at the base.

    Raises:
        UserError: it belongs to a run with other settings, or none is whole.
    """
    if resume is not None:
        require_whole(resume)
    else:
        chosen = choose_checkpoint(checkpoints)
        resume = chosen.folder
        for problem in chosen.refused if dist.get_rank() == 0 else ():
            reporter.notice(f"{job.name}: a checkpoint is damaged and left out ({problem})")
    if resume is None:
        return None, None
    position = read_position(resume)
    if position.job_digest != job.digest():
        raise UserError(
            f"run {job.name}", f"{resume} belongs to a run with other settings", "give the run another name"
        )
    return resume, position


def _optimiser_step(engine: Any, feed: Feed, step: int, device: torch.device) -> torch.Tensor:
    """Forward, backward and update over one global batch; returns this rank's part, the batch's loss being their mean."""
    losses, target_weight = [], feed.target_weight(step)
    for rows in feed.micro_batches(step):
        loss = training_loss(engine, rows.to(device), target_weight)
        engine.backward(loss)
        engine.step()  # updates at the last micro-batch only
        losses.append(loss.detach())
    return torch.stack(losses).mean()


def _sources_of(plan: Plan, step: int) -> dict[str, int]:
    counts = np.bincount(plan.batch(step).source, minlength=len(plan.sources))
    return {name: int(count) for name, count in zip(plan.sources, counts, strict=True)}


def _still_needed(recent: list[Record], alarms: AlarmConfig) -> list[Record]:
    """The records that the driver may lack or that later alarms look back on."""
    newest = recent[-1]["time_ms"] if recent else 0
    first = first_needed(recent, alarms)
    return [kept for i, kept in enumerate(recent) if i >= first or kept["time_ms"] > newest - _UNSETTLED_MS]


def _mean_over_ranks(loss: torch.Tensor, world: int) -> float:
    if world > 1:
        dist.all_reduce(loss)
    return float(loss) / world


def _seed_at(seed: int, step: int, rank: int) -> int:
    """Random numbers (dropout) depend on the step, not on history, so that a resumed run draws the same ones."""
    return derive_key(seed, step, rank) >> 1  # torch takes a signed number


def _steps_between(tokens: int | None, batch_tokens: int, steps: int) -> int:
    return max(1, steps // 10) if tokens is None else max(1, round(tokens / batch_tokens))


class _Speed:
    """Tokens per second and model FLOPs utilisation over the steps since the last record."""

    def __init__(self, job: Job, world: int, device: torch.device, vocabulary: int) -> None:
        shape, size = model_shape(job.model, vocabulary)
        self._flops = flops_per_token(shape, size, job.training.sequence_length)
        self._batch_tokens, self._world = job.training.global_batch_tokens, world
        bf16 = resolve_precision(job.training, device) == "bf16"
        if device.type == "cuda":
            known = device_peak(torch.cuda.get_device_name(device), bf16)
        else:
            known = measure_cpu_peak(dtype=torch.bfloat16 if bf16 else torch.float32)
        self._peak = job.training.peak_flops or known
        self._steps, self._seconds = 0, 0.0

    def add(self, seconds: float) -> None:
        self._steps += 1
        self._seconds += seconds

    def metrics(self) -> dict[str, float]:
        per_second = self._steps * self._batch_tokens / self._seconds
        self._steps, self._seconds = 0, 0.0
        result = {"train/tokens_per_second": per_second}
        if self._peak:
            result["train/mfu"] = per_second * self._flops / (self._world * self._peak)
        return result
