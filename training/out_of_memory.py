"""When memory runs out: one line for the user that says what would fit, by the estimate of ``memory.py``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch

from ground.errors import UserError
from training.engine import resolve_precision
from training.job import Job
from training.memory import GB, Load, advice, largest_micro_batch, memory
from training.model import model_shape

_SAYS_SO = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")
"""What the allocators of CUDA, NCCL, cuBLAS and the CPU say in a RuntimeError, in lower case."""
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@contextlib.contextmanager
def memory_explained(job: Job, device: torch.device) -> Iterator[None]:
    """Around the training of one worker: what ran out of memory becomes a UserError.

    Raises:
        UserError: memory ran out, on the device or on the machine.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not ran_out(error):
            raise
        asked = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise out_of_memory(job, device, asked[:160]) from error


def ran_out(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised from, says that memory ran out."""
    while error is not None:
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
            return True
        if isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SAYS_SO):
            return True
        error = error.__cause__
    return False


def worker_was_killed(job: Job, *, use_gpu: bool) -> UserError:
    """The error to raise in the driver when Ray's memory monitor killed a worker, whose machine was nearly full."""
    asked = "Ray ended a worker since the memory of its machine was nearly full"
    if not use_gpu:
        return out_of_memory(job, torch.device("cpu"), asked)
    mend = "put fewer workers on a machine, or take one with more memory"
    if job.training.offload != "none":
        mend = f"set training.offload=none in a new run, {mend}"
    return UserError("training.workers", f"{job.name} ran out of the machine's memory, not the GPU's ({asked})", mend)


def out_of_memory(job: Job, device: torch.device, asked: str) -> UserError:
    """The error to raise when ``job`` ran out of memory on ``device``.

    Args:
        asked: what the allocator, or Ray, said; one line.
    """
    load, capacity = _load(job, device), _capacity(device, job.training.workers)
    where = f"each GPU's {capacity / GB:.0f} GB" if device.type == "cuda" else "a worker's part of the machine's memory"
    problem = f"{job.name} ran out of {where} ({asked})"
    return UserError("training.micro_batch", problem, what_would_fit(load, capacity))


def what_would_fit(load: Load, capacity: float) -> str:
    """The change to make after memory ran out, with what it needs.

    Where the estimate says that the load fits, memory that others hold, or that is in pieces, was missing: then the next
    smaller load.
    """
    told = advice(load, capacity)
    if told is not None:
        return f"{told}{_again(told)}"
    smaller = _next_smaller(load)
    need = f"about {memory(load).total / GB:.1f} GB should do of {capacity / GB:.0f} GB, so others may hold some of it"
    if smaller is None:
        return f"{need}: free it, use more workers or a shorter sequence_length"
    settings = " ".join(f"training.{name}={str(value).lower()}" for name, value in smaller.items())
    text = f"{need}: free it, or set {settings} ({memory(load.at(**smaller)).total / GB:.1f} GB)"
    return f"{text}{_again(text)}"


def _next_smaller(load: Load) -> dict[str, object] | None:
    """The mildest change that needs less: a smaller micro-batch, then checkpointing, then a higher stage."""
    training, need = load.training, memory(load).total
    fitting = largest_micro_batch(load.at(), need * (1 - 1e-9))
    changes: list[dict[str, object]] = []
    if 0 < fitting < training.micro_batch:
        changes.append({"micro_batch": fitting})
    if not training.activation_checkpointing:
        changes.append({"activation_checkpointing": True})
    if training.workers > 1:
        changes += [{"zero_stage": stage} for stage in range(training.zero_stage + 1, 4)]
    return next((change for change in changes if memory(load.at(**change)).total < need), None)


def _again(text: str) -> str:
    """How a run that has begun goes on with it; a change of how states are split needs a new run, which it will say."""
    fields = [field for field in ("training.micro_batch", "training.activation_checkpointing") if f"{field}=" in text]
    return f"; a run that has begun needs {' '.join(f'--allow {field}' for field in fields)} too" if fields else ""


def _load(job: Job, device: torch.device) -> Load:
    vocabulary = job.open_store().manifest.vocabulary
    shape, size = model_shape(job.model, vocabulary)
    return Load(shape, size, job.training, half=resolve_precision(job.training, device) != "fp32")


def _capacity(device: torch.device, workers: int) -> float:
    """Bytes that one worker may use: its GPU's, or its part of the memory of the machine or container."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    import psutil

    whole = float(psutil.virtual_memory().total)
    with contextlib.suppress(OSError, ValueError):  # no limit ("max"), or no such file
        whole = min(whole, float(_CGROUP_LIMIT.read_text()))
    return whole / workers
