"""Placing the training core on a Ray cluster: Ray Train starts the workers, restarts them and keeps their checkpoints.

The only module of this room that imports Ray. Records travel from rank 0 to the driver through one small actor, because
one process writes a run's metrics (law 6) and a Ray Train callback would run in yet another process.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from ground.errors import UserError
from training.job import Job, Outcome, Record

_POLL_SECONDS = 0.5
_HEALTH_CHECK_SECONDS = "0.2"  # the default of 2 s adds 5 s to the end of every run


@ray.remote(num_cpus=0)
class _Mailbox:
    """Holds what rank 0 reports until the driver fetches it."""

    def __init__(self) -> None:
        self._letters: list[dict[str, Any]] = []
        self._ended = False

    def put(self, letter: dict[str, Any]) -> None:
        self._letters.append(letter)
        self._ended |= "error" in letter

    def ended(self) -> bool:
        """Whether the run ended with an error that a new start would meet again."""
        return self._ended

    def drain(self) -> list[dict[str, Any]]:
        letters, self._letters = self._letters, []
        return letters


class _RayReporter:
    """Reports of one worker."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def record(self, record: Record) -> None:
        self._mailbox.put.remote({"record": record})

    def notice(self, text: str) -> None:
        self._mailbox.put.remote({"notice": text})


def launch(job: Job, on_record: Callable[[Record], None], *, use_gpu: bool, cpus_per_worker: int = 1) -> Outcome:
    """Run a job on the connected Ray cluster and wait for it. Continues from the job's last checkpoint if it has one.

    Args:
        on_record: called in this process, in order, with every record of rank 0.
        use_gpu: one GPU per worker.
        cpus_per_worker: logical CPUs reserved for a worker.

    Raises:
        UserError: the cluster is too small, or the run refused or broke for a reason its user can mend.
    """
    check_capacity(job.training.workers, use_gpu=use_gpu, cpus_per_worker=cpus_per_worker)
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", _HEALTH_CHECK_SECONDS)
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    mailbox = _Mailbox.remote()  # type: ignore[attr-defined]  # added by ray.remote
    final: dict[str, Any] = {}

    def take(letters: list[dict[str, Any]]) -> None:
        for letter in letters:
            if "record" in letter:
                on_record(letter["record"])
            elif "notice" in letter:
                sys.stderr.write(f"steady: {letter['notice']}\n")
            else:
                final.update(letter)

    trainer = TorchTrainer(
        _work,
        train_loop_config={"job": job.model_dump(mode="json"), "mailbox": mailbox, "gpu": use_gpu},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=job.training.workers,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": cpus_per_worker} | ({"GPU": 1} if use_gpu else {}),
        ),
        run_config=RunConfig(
            name="ray",  # its own notes; checkpoints are ours (checkpoint.py)
            storage_path=job.folder,
            failure_config=FailureConfig(max_failures=job.training.max_failures),
        ),
    )
    try:
        with _draining(mailbox, take):
            trainer.fit()
    except ray.train.TrainingFailedError as error:
        if "error" not in final:
            raise _explain(error, job) from error
    finally:
        ray.kill(mailbox)
    if "error" in final:
        raise UserError(*final["error"])
    outcome = final["outcome"]
    return Outcome(outcome["steps"], outcome["tokens"], Path(outcome["model"]), outcome["seconds"])


def gpus_available() -> int:
    """GPUs of the connected cluster."""
    return int(_resources().get("GPU", 0))


def check_capacity(workers: int, *, use_gpu: bool, cpus_per_worker: int) -> None:
    """Fail at once, with the arithmetic, when the cluster can never hold the workers (law 5)."""
    total = _resources()
    for resource, each in (("GPU", 1 if use_gpu else 0), ("CPU", cpus_per_worker)):
        have = total.get(resource, 0)
        if workers * each > have:
            raise UserError(
                "training.workers",
                f"{workers} workers x {each} {resource} need {workers * each}, the cluster has {have:g}",
                f"use at most {int(have // each)} workers or a larger cluster",
            )


def _resources() -> dict[str, float]:
    return dict(ray.cluster_resources())  # type: ignore[no-untyped-call]  # Ray's own lacks types


def _work(config: dict[str, Any]) -> None:
    """What every worker runs."""
    import torch  # the driver need not load it

    from training.loop import train

    job, mailbox = Job.model_validate(config["job"]), config["mailbox"]
    context = ray.train.get_context()
    if not config["gpu"]:
        torch.set_num_threads(job.training.threads or max(1, (os.cpu_count() or 1) // context.get_local_world_size()))
    device = ray.train.torch.get_device() if config["gpu"] else torch.device("cpu")
    if ray.get(mailbox.ended.remote()):
        return
    try:
        outcome = train(job, _RayReporter(mailbox), device=device)
    except UserError as error:  # would come back at every new start, so that one ends at once
        ray.get(mailbox.put.remote({"error": (error.field, error.problem, error.mend)}))
        raise  # ends the others too, which may be waiting for this one in a collective
    if context.get_world_rank() == 0:
        ray.get(mailbox.put.remote({"outcome": {**vars(outcome), "model": str(outcome.model)}}))


@contextmanager
def _draining(mailbox: Any, take: Callable[[list[dict[str, Any]]], None]) -> Iterator[None]:
    """Fetch letters in a thread while the body runs, and the last ones after it."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(_POLL_SECONDS):
            take(ray.get(mailbox.drain.remote()))

    thread = threading.Thread(target=loop, name="steady-mailbox", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        take(ray.get(mailbox.drain.remote()))


def _explain(error: Exception, job: Job) -> UserError:
    """One line for a run that failed more often than ``max_failures``."""
    cause = error.__cause__ or error
    reason = next((line for line in reversed(str(cause).splitlines()) if line.strip()), type(cause).__name__)
    return UserError(
        f"run {job.name}",
        f"failed after {job.training.max_failures} restarts ({reason.strip()[:200]})",
        "run the same command again to go on from its last checkpoint, or see Ray's logs",
    )
