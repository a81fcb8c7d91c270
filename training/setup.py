"""Building what one rank needs for a run, and finding the checkpoint it goes on from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ground.errors import UserError
from pipelines.plan import Plan
from pipelines.store import TokenStore
from training.checkpoint import CHECKPOINTS, barrier, choose_checkpoint, read_position, require_whole
from training.checkpoint_loader import needs_conversion
from training.checkpoint_mirror import Mirror, MirrorThread
from training.checkpoint_writer import CheckpointWriter, remove_unfinished
from training.control import Control
from training.engine import build_engine
from training.evaluation import HeldOut
from training.feed import Feed
from training.freeze import freeze
from training.job import Job, Reporter
from training.model import build_model
from training.position import Position
from training.prefetch import Prefetch
from training.retention import Retention, prune
from training.speed import Speed
from training.updates import LayerUpdates


@dataclass
class Prepared:
    """One rank's parts of a run."""

    store: TokenStore
    plan: Plan
    feed: Prefetch
    held_out: HeldOut
    engine: Any
    updates: LayerUpdates | None
    speed: Speed
    checkpoints: Path
    writer: CheckpointWriter
    mirror: Mirror | None
    """Rank 0 only."""
    mirror_thread: MirrorThread | None
    resume: Path | None
    """The checkpoint to load; None: begin at the base."""

    def close(self) -> None:
        """End the threads."""
        self.feed.close()
        self.writer.close()
        if self.mirror_thread is not None:
            self.mirror_thread.close()


def prepare(job: Job, reporter: Reporter, *, device: torch.device, resume: Path | None, control: Control) -> Prepared:
    """Everything for ``training.loop.train``, whose arguments these are.

    Raises:
        UserError: as there.
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    settings = job.training
    store = job.open_store()
    if store.digest != job.store_digest:
        raise UserError("curation.store", "is not the store this run began with", "give the run another name")
    plan = job.build_plan(store)
    apart, length, size = settings.document_masking, settings.sequence_length, settings.micro_batch
    feed = Feed(store, plan, rank=rank, world=world, micro_batch=size, documents=apart)
    model = build_model(
        job.model,
        vocabulary=store.manifest.vocabulary,
        end_of_document=store.manifest.end_of_document,
        seed=job.seed,
        checkpointing=settings.activation_checkpointing,
    )
    freeze(model, settings)
    held_out = HeldOut(store, job.evaluation, length=length, micro_batch=size, documents=apart)

    checkpoints, retention = Path(job.folder) / CHECKPOINTS, Retention.of(settings)
    checkpoints.mkdir(parents=True, exist_ok=True)
    remove_unfinished(checkpoints)
    mirror = Mirror(settings.checkpoint_mirror, job.name) if settings.checkpoint_mirror and rank == 0 else None
    if mirror is not None and (step := mirror.fetch_newer(checkpoints)) is not None:
        reporter.notice(f"{job.name}: the checkpoint of step {step} comes from the mirror")
    barrier()
    resume, position = _where_to_begin(job, checkpoints, resume, reporter)

    convert = position is not None and needs_conversion(position)
    engine = build_engine(model, settings, world=world, device=device, convert_checkpoint=convert)
    thread = None if mirror is None else MirrorThread(mirror, retention, reporter.notice)

    def saved(folder: Path) -> None:
        prune(checkpoints, retention)
        if thread is not None:
            thread.submit(folder)
        control.saved(folder)

    return Prepared(
        store=store,
        plan=plan,
        feed=Prefetch(feed, plan.steps, pinned=device.type == "cuda"),
        held_out=held_out,
        engine=engine,
        updates=LayerUpdates(engine) if job.evaluation.layer_updates else None,  # before the base is overwritten
        speed=Speed(job, world, device, store.manifest.vocabulary),
        checkpoints=checkpoints,
        writer=CheckpointWriter(engine, checkpoints, notice=reporter.notice, done=saved),
        mirror=mirror,
        mirror_thread=thread,
        resume=resume,
    )


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
    if not job.accepts(position.job_digest):
        raise UserError(
            f"run {job.name}", f"{resume} belongs to a run with other settings", "give the run another name"
        )
    return resume, position
