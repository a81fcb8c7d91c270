"""Placing the training core on a Ray cluster: Ray Train starts the workers and starts them again after a failure.

Only this module and its parts (``launch_*.py``) import Ray in this room.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ground.errors import UserError
from training.config import TrainingConfig
from training.control import Stopped
from training.job import Job, Outcome, Record
from training.launch_evaluation import CheckpointEvaluations
from training.launch_mailbox import Mailbox
from training.launch_network import ReachableConfig
from training.launch_worker import work
from training.signals import stopped_by_signals

_POLL_SECONDS = 0.5
_COLLECTIVE_SECONDS = 1800  # torch's own limit; the watchdog is to be faster
_HEALTH_CHECK_SECONDS = 0.2  # the default of 2 s adds 5 s to the end of every run
_HEALTH_CHECKS_PER_SECOND = 100  # of all workers together: the controller asks each of them


def launch(
    job: Job,
    on_record: Callable[[Record], None],
    *,
    use_gpu: bool,
    cpus_per_worker: int = 1,
    until: int | None = None,
    asked_to_stop: Callable[[], bool] | None = None,
    on_sample: Callable[[int, Mapping[str, float]], None] | None = None,
    sample_s: float | None = None,
) -> Outcome:
    """Run a job on the connected Ray cluster and wait for it. Continues from the job's last checkpoint if it has one.

    SIGTERM or SIGINT makes the run write a checkpoint and end; a second one ends it at once.

    Args:
        on_record: called in this process, in order, with every record of rank 0.
        use_gpu: one GPU per worker.
        cpus_per_worker: logical CPUs reserved for a worker.
        until: stop after this step (``training.loop.train``).
        asked_to_stop: asked twice a second instead of taking signals, where this process is not the user's own.
        on_sample: called in this process with the system metrics of every node but its own, by the node's rank.
        sample_s: seconds between two of them; None: none are taken.

    Raises:
        UserError: the cluster is too small, or the run refused or broke for a reason its user can mend.
        SystemExit: it was told to stop by a signal, and did.
        Stopped: it stopped at ``until``, or because ``asked_to_stop`` said so.
    """
    check_capacity(job.training.fewest_workers, use_gpu=use_gpu, cpus_per_worker=cpus_per_worker)
    health = min(2.0, max(_HEALTH_CHECK_SECONDS, job.training.workers / _HEALTH_CHECKS_PER_SECOND))
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(health))
    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(job.training.watchdog_s)
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    # On the driver's own node: it must not be lost with a worker's.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    mailbox = Mailbox.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]  # added by ray.remote
    trainer = TorchTrainer(
        work,
        train_loop_config={
            "job": job.model_dump(mode="json"),
            "mailbox": mailbox,
            "gpu": use_gpu,
            "until": until,
            "sample_s": sample_s,
            "driver_node": ray.get_runtime_context().get_node_id(),
        },
        torch_config=ReachableConfig(
            backend="nccl" if use_gpu else "gloo",
            timeout_s=max(_COLLECTIVE_SECONDS, math.ceil(job.training.watchdog_s)),
        ),
        scaling_config=ScalingConfig(
            num_workers=_worker_range(job.training),
            use_gpu=use_gpu,
            resources_per_worker={"CPU": cpus_per_worker} | ({"GPU": 1} if use_gpu else {}),
        ),
        run_config=RunConfig(
            name="ray",  # its own notes; checkpoints are ours (checkpoint.py)
            storage_path=job.folder,
            failure_config=FailureConfig(max_failures=job.training.max_failures),
        ),
    )
    evaluations = CheckpointEvaluations(job, use_gpu=use_gpu) if job.evaluation.tasks else None
    final: dict[str, Any] = {"begun": 0}

    def take(letters: list[dict[str, Any]]) -> None:
        for letter in letters:
            if "record" in letter:
                on_record(letter["record"])
            elif "notice" in letter:
                sys.stderr.write(f"steady: {letter['notice']}\n")
            elif "sample" in letter:
                if on_sample is not None:
                    on_sample(*letter["sample"])
            elif "begun" in letter:
                final["begun"] += 1
                if final["begun"] > 1:
                    limit = job.training.max_failures
                    sys.stderr.write(f"steady: {job.name}: the workers start again ({final['begun'] - 1} of {limit})\n")
            elif "checkpoint" in letter:
                if evaluations is not None:
                    evaluations.submit(Path(letter["checkpoint"]))
            else:
                final.update(letter)

    fit = _Fit(trainer)
    try:
        asked: AbstractContextManager[list[int]] = nullcontext([])
        with stopped_by_signals(mailbox.stop.remote) if asked_to_stop is None else asked as stopped:
            while fit.is_alive():
                fit.join(_POLL_SECONDS)
                if asked_to_stop is not None and asked_to_stop():
                    mailbox.stop.remote()
                take(ray.get(mailbox.drain.remote()))
                for record in evaluations.poll() if evaluations else ():
                    on_record(record)
        take(ray.get(mailbox.drain.remote()))
    finally:
        ray.kill(mailbox)
    if "error" in final:
        raise UserError(*final["error"])
    if fit.error is not None:
        failed = isinstance(fit.error, ray.train.TrainingFailedError)
        raise _explain(fit.error, job, use_gpu=use_gpu) if failed else fit.error
    if "stopped" in final and not stopped:
        raise Stopped(final["stopped"])
    if "stopped" in final:
        sys.stderr.write(
            f"steady: {job.name} stopped after step {final['stopped']}; the same command goes on from there\n"
        )
        raise SystemExit(128 + stopped[0])
    told = final["outcome"]
    outcome = Outcome(told["steps"], told["tokens"], Path(told["model"]), told["seconds"])
    if evaluations is not None:
        evaluations.submit_final(outcome)
        for record in evaluations.rest():
            on_record(record)
    return outcome


def _worker_range(training: TrainingConfig) -> Any:
    """For Ray Train: a number, or the range (a pair, which its type does not tell) it may choose from when a node is lost."""
    fewest = training.fewest_workers
    return training.workers if fewest == training.workers else (fewest, training.workers)


def gpus_available() -> int:
    """GPUs of the connected cluster."""
    return int(cluster_capacity().get("GPU", 0))


def check_capacity(workers: int, *, use_gpu: bool, cpus_per_worker: int) -> None:
    """Fail at once, with the arithmetic, when the cluster can never hold the workers (law 5)."""
    total = cluster_capacity()
    for resource, each in (("GPU", 1 if use_gpu else 0), ("CPU", cpus_per_worker)):
        have = total.get(resource, 0)
        if workers * each > have:
            raise UserError(
                "training.workers",
                f"{workers} workers x {each} {resource} need {workers * each}, the cluster has {have:g}",
                f"use at most {int(have // each)} workers or a larger cluster",
            )


def cluster_capacity() -> dict[str, float]:
    """What the connected cluster can hold, by resource: what is there, or more where it may start machines when asked."""
    from ray._private.state import state

    there: dict[str, float] = dict(ray.cluster_resources())  # type: ignore[no-untyped-call]  # Ray's own lacks types
    most = state.get_max_resources_from_cluster_config() or {}  # None without an autoscaler
    return {name: max(there.get(name, 0), most.get(name, 0)) for name in there.keys() | most.keys()}


class _Fit(threading.Thread):
    """``trainer.fit()`` beside the main thread, which must be free to take signals: Ray Train would take SIGINT itself."""

    def __init__(self, trainer: TorchTrainer) -> None:
        super().__init__(name="steady-fit", daemon=True)
        self._trainer = trainer
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._trainer.fit()
        except Exception as error:  # noqa: BLE001 (the main thread raises it)
            self.error = error


def killed_for_memory(error: BaseException) -> bool:
    """Whether Ray's memory monitor killed a worker of a run that failed (seen by the driver)."""
    wrapped = ("cause", "controller_failure", "health_check_failure")  # of Ray's errors, and Ray Train's
    failures = getattr(error, "worker_failures", {}).values()
    causes = [error.__cause__, *(getattr(error, name, None) for name in wrapped), *failures]
    return isinstance(error, ray.exceptions.OutOfMemoryError) or any(
        killed_for_memory(one) for one in causes if one is not None
    )


def _explain(error: Exception, job: Job, *, use_gpu: bool) -> UserError:
    """One line for a run that failed more often than ``max_failures``."""
    from training.out_of_memory import worker_was_killed  # loads torch

    if killed_for_memory(error):
        return worker_was_killed(job, use_gpu=use_gpu)
    cause = error.__cause__ or error
    reason = next((line for line in reversed(str(cause).splitlines()) if line.strip()), type(cause).__name__)
    return UserError(
        f"run {job.name}",
        f"failed after {job.training.max_failures} restarts ({reason.strip()[:200]})",
        "run the same command again to go on from its last checkpoint, or see Ray's logs",
    )
