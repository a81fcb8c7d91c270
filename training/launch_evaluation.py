"""Task evaluations on the cluster beside a run: one Ray task at a time, so that training never waits for them."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import ray

from ground.errors import user_error_in
from training.job import Job, Outcome, Record
from training.tasks.at_checkpoints import answer_checkpoint, answer_model, unanswered

_WAIT_SECONDS = 0.5
_OF_A_GROUP = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher above the driver may have set: lm-eval would wait for the other processes of a group that is not its own."""


class CheckpointEvaluations:
    """Evaluates the checkpoints of one run in their order.

    Args:
        use_gpu: each evaluation takes a GPU of its own. Where the run has all of them, evaluations begin when it is over, with
            the checkpoints that are still kept.
    """

    def __init__(self, job: Job, *, use_gpu: bool) -> None:
        self._job, self._device = job, "cuda" if use_gpu else "cpu"
        self._task = ray.remote(num_cpus=1, num_gpus=1 if use_gpu else 0, max_retries=1)(_answer)
        self._waiting: deque[tuple[Path, int | None]] = deque()
        self._running: tuple[Any, Path] | None = None
        base = Path(job.model.base) if job.model.base else None
        if base is not None and base.is_dir() and not (Path(job.folder) / "tasks" / "step-0").is_dir():
            self._waiting.append((base, 0))
        for folder in unanswered(job):
            self.submit(folder)

    def submit(self, checkpoint: Path) -> None:
        """Evaluate this checkpoint when those before it are done."""
        if all(checkpoint != folder for folder, _ in self._waiting):
            self._waiting.append((checkpoint, None))

    def submit_final(self, outcome: Outcome) -> None:
        """Evaluate the finished model."""
        self._waiting.append((outcome.model, outcome.steps))

    def poll(self) -> list[Record]:
        """Records that are there by now. One that failed is told and left out: it costs no training."""
        records = []
        if self._running is not None:
            ready, _ = ray.wait([self._running[0]], timeout=0)
            if ready:
                (reference, folder), self._running = self._running, None
                try:
                    records.append(ray.get(reference))
                except ray.exceptions.RayError as error:
                    reason = str(user_error_in(error) or error).strip().splitlines()[-1][:300]
                    sys.stderr.write(f"steady: {self._job.name}: tasks of {folder.name} were not answered ({reason})\n")
        if self._running is None and self._waiting:
            folder, step = self._waiting.popleft()
            job = self._job.model_dump(mode="json")
            self._running = self._task.remote(job, str(folder), step, self._device), folder
        return records

    def rest(self) -> list[Record]:
        """Wait for all that was submitted."""
        records = []
        while self._running is not None or self._waiting:
            records += self.poll()
            time.sleep(_WAIT_SECONDS)
        return records


def _answer(job: dict[str, Any], folder: str, step: int | None, device: str) -> Record:
    """In a Ray worker: ``step`` of a model's folder, None: ``folder`` is a checkpoint."""
    for name in _OF_A_GROUP:
        os.environ.pop(name, None)
    described = Job.model_validate(job)
    if step is None:
        return answer_checkpoint(described, Path(folder), device)
    return answer_model(described, Path(folder), step, device)
