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
from training.alarms import Alarm, first_needed, new_alarms
from training.checkpoint import read_records
from training.checkpoint_loader import load_checkpoint
from training.config import AlarmConfig
from training.control import Control, Request, Stopped
from training.engine import gradient_norm, set_learning_rate, skipped_is_fatal
from training.evaluation import evaluation_steps
from training.export import export_model
from training.job import Job, Outcome, Record, Reporter
from training.model import training_loss
from training.position import Position, Rollback
from training.prefetch import Batch
from training.rollback import is_skipped
from training.schedule import learning_rate
from training.setup import Prepared, prepare
from training.turning_back import turn_back

_UNSETTLED_MS = 60_000  # records older than this have long been taken by the driver, which asks twice a second


def train(
    job: Job,
    reporter: Reporter,
    *,
    device: torch.device,
    resume: Path | None = None,
    control: Control | None = None,
    until: int | None = None,
) -> Outcome:
    """Run ``job`` on this rank of the existing process group: from its newest whole checkpoint, or else from the base.

    Args:
        resume: a checkpoint to go on from instead.
        control: what may ask the run to save or stop, and watches it.
        until: stop after this step with an evaluation and a checkpoint, unless the run ends before; the same on all ranks.

    Raises:
        UserError: the checkpoint is of another run, store, base and mixture do not fit together, or the loss or its
            gradients are no longer finite.
        Stopped: ``control`` or ``until`` asked for it; there is a checkpoint.
    """
    control = control or Control()
    prepared = prepare(job, reporter, device=device, resume=resume, control=control)
    try:
        return _Loop(job, reporter, device, control, prepared).run(until)
    finally:
        control.finished()
        prepared.close()


class _Loop:
    """One rank's course through the plan."""

    def __init__(
        self, job: Job, reporter: Reporter, device: torch.device, control: Control, prepared: Prepared
    ) -> None:
        self._job, self._settings, self._reporter, self._control = job, job.training, reporter, control
        self._rank, self._world, self._device, self._parts = dist.get_rank(), dist.get_world_size(), device, prepared
        self._engine, self._plan, self._writer = prepared.engine, prepared.plan, prepared.writer
        self._step, self._seconds, self._skipped_updates = 0, 0.0, 0
        self._seen: Counter[str] = Counter(dict.fromkeys(self._plan.sources, 0))
        self._rollbacks: list[Rollback] = []
        self._request = Request.NONE
        self._measured: dict[str, float] = {}
        self._recent: list[Record] = []  # rank 0: what the driver may not have on disk yet
        self._evaluate_at = set(evaluation_steps(self._plan.steps, job.evaluation.points))
        settings = self._settings
        self._save_every = _steps_between(settings.checkpoint_tokens, settings.global_batch_tokens, self._plan.steps)

    def run(self, until: int | None = None) -> Outcome:
        """From where the run stands to the end, or to ``until``."""
        end = self._plan.steps if until is None else min(until, self._plan.steps)
        self._evaluate_at.add(end)
        resume = self._parts.resume
        if resume is not None:
            self._take(load_checkpoint(self._engine, resume))
            self._recent = read_records(resume) if self._rank == 0 else []
            for kept in self._recent:
                self._reporter.record(kept)
        if self._step == 0 and resume is None:
            self._evaluate()
            if self._settings.alarms.rollback != "never":
                self._save()  # there must be something to go back to
        while self._step < end:
            if is_skipped(self._step, self._rollbacks):
                self._step += 1
            elif not self._train_step():
                continue  # the run has gone back
            if self._step in self._evaluate_at:
                self._evaluate()
            request, self._request = self._request, Request.NONE
            due = self._step % self._save_every == 0 or request != Request.NONE or self._step == end
            if due and self._step < self._plan.steps:
                self._save()  # after the evaluation, which a resumed run would not do again
                if request == Request.STOP or self._step == end:
                    self._writer.settle()
                    raise Stopped(self._step)
        if end < self._plan.steps:
            raise Stopped(self._step)  # it stood there already
        self._control.tick("writing the model")
        self._writer.settle()
        target = Path(self._job.folder) / "model"
        export_model(self._engine, self._parts.store.tokenizer_path, target, zero_stage=self._settings.zero_stage)
        return Outcome(self._step, self._tokens, target, self._seconds)

    @property
    def _tokens(self) -> int:
        return self._step * self._settings.global_batch_tokens

    def _train_step(self) -> bool:
        """One optimiser step, and what belongs to it; False when an alarm made the run go back."""
        settings, step = self._settings, self._step
        self._control.tick(f"step {step + 1}")
        started = time.perf_counter()
        rate = learning_rate(settings.schedule, settings.learning_rate, step, self._plan.steps)
        set_learning_rate(self._engine, rate)
        torch.manual_seed(_seed_at(self._job.seed, step, self._rank))
        loss = _optimiser_step(self._engine, self._parts.feed.batch(step), self._device)
        self._seen.update(_sources_of(self._plan, step))
        self._step = step = step + 1
        logged = step % settings.log_steps == 0 or step == self._plan.steps
        # Reading the loss waits for the device, and what is asked of one worker reaches the others with it.
        mean, request = self._shared(loss) if logged else (0.0, Request.NONE)
        elapsed = time.perf_counter() - started
        self._seconds += elapsed
        self._parts.speed.add(elapsed)
        skipped, self._skipped_updates = self._engine.skipped_steps > self._skipped_updates, self._engine.skipped_steps
        if (skipped and skipped_is_fatal(self._engine)) or not math.isfinite(mean):
            # DeepSpeed skips an update whose gradients are not finite and goes on: nothing would be learned any more.
            self._report({"alarm/not_finite": 1.0})
            found = "the gradients are not finite" if math.isfinite(mean) else f"the loss is {mean}"
            if settings.alarms.rollback == "never":
                raise UserError("training.learning_rate", f"{found} after step {step}", "lower the rate")
            return self._go_back(Alarm("not_finite", step, mean, math.nan, step))
        if logged:
            alarm = self._record(mean, rate)
            if settings.alarms.rollback != "never" and (alarm := self._told_to_all(alarm)) is not None:
                return self._go_back(alarm)
        self._request = request
        return True

    def _record(self, mean: float, rate: float) -> Alarm | None:
        """Report the step; the first alarm that it raises (rank 0)."""
        total = self._seen.total()
        shares = {f"train/share/{name}": count / total for name, count in self._seen.items()}
        metrics = {"train/loss": mean, "train/learning_rate": rate} | gradient_norm(self._engine)
        alarms = new_alarms([*self._recent, self._stamped(metrics)], self._settings.alarms) if self._rank == 0 else []
        for alarm in alarms:
            metrics |= alarm.metric()
        waited, self._parts.feed.waited = self._parts.feed.waited, 0.0
        self._report(metrics | self._parts.speed.metrics(waited) | shares)
        return alarms[0] if alarms else None

    def _evaluate(self) -> None:
        self._control.tick(f"evaluation after step {self._step}")
        parts = self._parts
        measured = parts.held_out.measure(self._engine, rank=self._rank, world=self._world, device=self._device)
        self._measured |= measured
        updates = parts.updates.measure(self._device) if parts.updates and self._step else {}
        self._report(measured | updates)

    def _save(self) -> None:
        """Begin a checkpoint of where the run stands."""
        self._control.tick(f"checkpoint of step {self._step}")
        position = Position(
            step=self._step,
            tokens=self._tokens,
            seconds=self._seconds,
            job_digest=self._job.digest(),
            shares=dict(self._seen),
            world=self._world,
            zero_stage=self._settings.zero_stage,
            measured=self._measured,
            rollbacks=self._rollbacks,
        )
        self._writer.save(position, self._recent)
        self._recent = _still_needed(self._recent, self._settings.alarms)

    def _go_back(self, alarm: Alarm) -> bool:
        """Return to a checkpoint before the alarm; always False."""
        self._control.tick(f"going back after step {self._step}")
        rollback, position = turn_back(alarm, self._settings, self._parts, earlier=self._rollbacks)
        if self._rank == 0:
            self._reporter.notice(f"{self._job.name}: {rollback.describe()}")
        skipped = sum(r.skip_to - r.skip_from for r in [*self._rollbacks, rollback])
        self._report({"train/skipped_steps": skipped, "train/rollbacks": len(self._rollbacks) + 1.0})
        seconds = self._seconds  # spent, whatever became of them
        self._take(position)
        self._seconds = seconds
        self._rollbacks = [*self._rollbacks, rollback]
        self._recent = [record for record in self._recent if record["step"] <= self._step]
        return False

    def _take(self, position: Position) -> None:
        """Stand where a loaded checkpoint stands."""
        self._step, self._seconds, self._seen = position.step, position.seconds, Counter(position.shares)
        self._measured, self._rollbacks = dict(position.measured), list(position.rollbacks)
        self._skipped_updates = self._engine.skipped_steps

    def _shared(self, loss: torch.Tensor) -> tuple[float, Request]:
        """The batch's loss, and the largest request of any worker."""
        asked = self._control.requested()
        if self._world == 1:
            return float(loss), asked
        both = torch.stack([loss, *(loss.new_tensor(float(asked == kind)) for kind in (Request.SAVE, Request.STOP))])
        dist.all_reduce(both)
        total, save, stop = both.tolist()
        return total / self._world, Request.STOP if stop else Request.SAVE if save else Request.NONE

    def _told_to_all(self, alarm: Alarm | None) -> Alarm | None:
        """Rank 0's alarm, on every rank."""
        letter = [alarm]
        if self._world > 1:
            dist.broadcast_object_list(letter, src=0, device=self._device)
        return letter[0]

    def _report(self, metrics: dict[str, float]) -> None:
        if self._rank == 0:
            self._recent.append(self._stamped(metrics))
            self._reporter.record(self._recent[-1])

    def _stamped(self, metrics: dict[str, float]) -> Record:
        return {"step": self._step, "tokens": self._tokens, "time_ms": time.time_ns() // 1_000_000, "metrics": metrics}


def _optimiser_step(engine: Any, batch: Batch, device: torch.device) -> torch.Tensor:
    """Forward, backward and update over one global batch; returns this rank's part, the batch's loss being their mean."""
    losses = []
    for rows in batch.micro_batches:
        loss = training_loss(engine, rows.to(device), batch.target_weight)
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


def _seed_at(seed: int, step: int, rank: int) -> int:
    """Random numbers (dropout) depend on the step, not on history, so that a resumed run draws the same ones."""
    return derive_key(seed, step, rank) >> 1  # torch takes a signed number


def _steps_between(tokens: int | None, batch_tokens: int, steps: int) -> int:
    return max(1, steps // 10) if tokens is None else max(1, round(tokens / batch_tokens))
