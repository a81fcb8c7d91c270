"""What every Ray Train worker runs: the core, with reports to the driver and a watchdog."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch

from ground.errors import UserError
from tracking.system import SystemMonitor
from training.allocator import keep_freed_memory
from training.control import Control, Request, Stopped
from training.job import Job, Record
from training.watchdog import Watchdog

_ASK_SECONDS = 1.0
_LAST_WORDS_SECONDS = 5.0


def work(config: dict[str, Any]) -> None:
    """What every worker runs."""
    import torch  # the driver need not load it

    from training.loop import train
    from training.out_of_memory import memory_explained

    job, mailbox = Job.model_validate(config["job"]), config["mailbox"]
    context = ray.train.get_context()
    if not config["gpu"]:
        keep_freed_memory()
        torch.set_num_threads(job.training.threads or max(1, (os.cpu_count() or 1) // context.get_local_world_size()))
    device = ray.train.torch.get_device() if config["gpu"] else torch.device("cpu")
    if ray.get(mailbox.ended.remote()):
        return
    rank = context.get_world_rank()
    if rank == 0:
        mailbox.put.remote({"begun": True})

    def barked(text: str) -> None:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(mailbox.put.remote({"notice": f"{job.name}, worker {rank}: {text}"}), timeout=_LAST_WORDS_SECONDS)

    monitor = _node_monitor(config, context)
    control = _RayControl(mailbox, rank, Watchdog(job.training.watchdog_s, barked))
    try:
        with memory_explained(job, device):
            outcome = train(job, _RayReporter(mailbox), device=device, control=control, until=config["until"])
    except Stopped as stopped:
        letter: dict[str, Any] = {"stopped": stopped.step}
    except UserError as error:  # would come back at every new start, so that one ends at once
        ray.get(mailbox.put.remote({"error": (error.field, error.problem, error.mend)}))
        raise  # ends the others too, which may be waiting for this one in a collective
    else:
        letter = {"outcome": {**vars(outcome), "model": str(outcome.model)}}
    finally:
        if monitor is not None:
            monitor.stop()
    if rank == 0:
        ray.get(mailbox.put.remote(letter))


def _node_monitor(config: dict[str, Any], context: Any) -> SystemMonitor | None:
    """Samples this node for the driver: one worker of each node does, but not of the driver's, which samples itself."""
    here = ray.get_runtime_context().get_node_id()
    if config["sample_s"] is None or context.get_local_rank() or here == config["driver_node"]:
        return None
    mailbox, node = config["mailbox"], context.get_node_rank()
    return SystemMonitor(lambda sample: mailbox.put.remote({"sample": (node, sample)}), config["sample_s"])


class _RayReporter:
    """Reports of one worker."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def record(self, record: Record) -> None:
        self._mailbox.put.remote({"record": record})

    def notice(self, text: str) -> None:
        self._mailbox.put.remote({"notice": text})


class _RayControl(Control):
    """Asks what the driver and the cluster ask, and is watched by a watchdog from the first sign of progress on."""

    def __init__(self, mailbox: Any, rank: int, watchdog: Watchdog) -> None:
        self._mailbox, self._watchdog = mailbox, watchdog
        self._stopping = self._warned = self._watched = False
        if rank == 0:
            threading.Thread(target=self._ask, name="steady-control", daemon=True).start()

    def requested(self) -> Request:
        if self._stopping:
            return Request.STOP
        if not self._warned and _goes_away():
            self._warned = True
            return Request.SAVE
        return Request.NONE

    def tick(self, doing: str) -> None:
        self._watchdog.tick(doing)
        if not self._watched:  # loading a model may take longer than any step
            self._watchdog.__enter__()
            self._watched = True

    def saved(self, folder: Path) -> None:
        self._mailbox.put.remote({"checkpoint": str(folder)})

    def finished(self) -> None:
        if self._watched:
            self._watchdog.__exit__(None, None, None)
            self._watched = False

    def _ask(self) -> None:
        with contextlib.suppress(ray.exceptions.RayError):  # the driver is gone, and this worker soon is
            while not self._stopping:
                time.sleep(_ASK_SECONDS)
                self._stopping = ray.get(self._mailbox.stopping.remote())


def _goes_away() -> bool:
    """Whether this worker's group was told that a machine of it will be taken away.

    Ray's public function waits for all workers; its own note of the warning is read instead, and ours travels with the loss.
    """
    try:
        from ray.train.v2._internal.execution.context import get_train_context

        return get_train_context().preemption_context.preemption_info is not None
    except (
        ImportError,
        AttributeError,
        RuntimeError,
    ):  # moved in another version: then checkpoints come at their time only
        return False
