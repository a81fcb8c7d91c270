"""Memory that runs out: the real errors of torch and Ray become one line with settings that fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.exceptions import OutOfMemoryError as KilledForMemory
from ray.train import WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from torch import nn

from ground.errors import UserError
from pipelines.store import TokenStore
from tests.helpers.runs import run_tiny, tiny_job
from tests.training.conftest import FEW
from training.config import Architecture, TrainingConfig
from training.launch import killed_for_memory
from training.memory import GB, Load, memory
from training.out_of_memory import memory_explained, what_would_fit, worker_was_killed

CPU = torch.device("cpu")
LLAMA_1B = Architecture(hidden_size=2048, layers=16, heads=32, kv_heads=8, intermediate_size=8192, max_positions=4096)


def load(**changes: Any) -> Load:
    settings = {"sequence_length": 2048, "global_batch_tokens": 32 * 2048, "micro_batch": 16, "workers": 2}
    return Load(LLAMA_1B, 128_256, TrainingConfig(**{**settings, **changes}))


def too_much() -> Any:
    return torch.empty(1 << 60, dtype=torch.uint8)  # the allocator's own error


def cuda_error() -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has a total of 79.10 GiB.")


def plain_error() -> Any:
    raise MemoryError


@pytest.mark.parametrize("fail", [too_much, cuda_error, plain_error])
def test_a_forward_pass_that_runs_out_of_memory(
    fail: Callable[[], Any], store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(self: nn.Module, *_: Any, **__: Any) -> Any:
        return fail() if self.training else forward(self, *_, **__)

    from transformers import LlamaForCausalLM

    forward = LlamaForCausalLM.forward
    monkeypatch.setattr(LlamaForCausalLM, "forward", run_out)
    job = tiny_job(store, tmp_path, **FEW)
    with pytest.raises(UserError) as caught, memory_explained(job, CPU):
        run_tiny(store, tmp_path, **FEW)
    text = str(caught.value)
    assert text.startswith("training.micro_batch: tiny ran out of ") and "\n" not in text
    assert "set training.micro_batch=2 " in text
    assert "--allow training.micro_batch" in text


def test_other_errors_pass_unchanged(store: TokenStore, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes do not match"), memory_explained(tiny_job(store, tmp_path), CPU):
        raise RuntimeError("shapes do not match")


@pytest.mark.parametrize(
    ("capacity", "changes", "words"),
    [
        (40 * GB, {}, "GB are needed, 40 GB there: set training.micro_batch="),  # by the estimate it does not fit
        (500 * GB, {}, "should do of 500 GB, so others may hold some of it: free it, or set training.micro_batch=8 "),
        (500 * GB, {"micro_batch": 1}, "set training.activation_checkpointing=true"),
        (500 * GB, {"micro_batch": 1, "activation_checkpointing": True}, "set training.zero_stage=2"),
    ],
)
def test_the_settings_it_names_need_less(capacity: float, changes: dict[str, Any], words: str) -> None:
    asked = load(**changes)
    text = what_would_fit(asked, capacity)
    assert words in text
    settings = [word.split("=") for word in text.split() if word.startswith("training.") and "=" in word]
    named = {name.removeprefix("training."): {"true": True}.get(value) or int(value) for name, value in settings}
    assert memory(asked.at(**named)).total < min(capacity, memory(asked).total)


def test_nothing_smaller_is_left() -> None:
    least = load(micro_batch=1, activation_checkpointing=True, zero_stage=3)
    assert "use more workers or a shorter sequence_length" in what_would_fit(least, 500 * GB)


def test_a_worker_that_ray_killed(store: TokenStore, tmp_path: Path) -> None:
    killed = KilledForMemory("Task was killed due to the node running low on memory.")
    found = WorkerHealthCheckFailedError(
        "A worker health check failed.", failure=killed
    )  # so it comes, tried with Ray 2.60
    assert killed_for_memory(WorkerGroupError("worker 1 failed", {1: found}))
    assert not killed_for_memory(WorkerGroupError("worker 1 failed", {1: ValueError("other")}))
    job = tiny_job(store, tmp_path)
    assert "set training.micro_batch=2" in str(worker_was_killed(job, use_gpu=False))
    assert "not the GPU's" in str(worker_was_killed(job, use_gpu=True))
