"""What makes two runs the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.config import MixtureConfig
from pipelines.store import TokenStore
from tests.helpers.runs import tiny_job
from training.config import AlarmConfig, EvaluationConfig
from training.job import Job


@pytest.mark.parametrize(
    "changes",
    [
        {"max_failures": 9},
        {"keep_checkpoints": 5},
        {"checkpoint_tokens": 512},
        {"peak_flops": 1e12},
        {"threads": 2},
        {"log_steps": 7},
        {"workers": 2},
        {"gpu": "H100"},
        {"alarms": AlarmConfig(window=8)},
    ],
)
def test_settings_that_only_change_the_speed_keep_the_identity(store: TokenStore, changes: dict[str, Any]) -> None:
    one = tiny_job(store, Path("one"))
    assert tiny_job(store, Path("other"), **changes).digest() == one.digest()


def test_a_moved_store_is_the_same_store(store: TokenStore) -> None:
    job = tiny_job(store, Path("run"))
    assert job.model_copy(update={"store": "elsewhere"}).digest() == job.digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 8},
        {"store_digest": "1" * 32},
        {"mixture": MixtureConfig(epochs=2)},
        {"learning_rate": 1e-4},
        {"zero_stage": 2},
        {"sequence_length": 32},
        {"evaluation": EvaluationConfig(points=6)},
    ],
)
def test_settings_that_change_the_numbers_change_it(store: TokenStore, changes: dict[str, Any]) -> None:
    assert tiny_job(store, Path("run"), **changes).digest() != tiny_job(store, Path("run")).digest()


def test_a_job_travels_as_json(store: TokenStore) -> None:
    job = tiny_job(store, Path("run"), mixture=MixtureConfig(shares={"med": 0.5, "wiki": 0.5}))
    assert Job.model_validate_json(job.model_dump_json()) == job
    assert Job.model_validate(job.model_dump(mode="json")) == job


def test_its_plan_has_its_batch(store: TokenStore) -> None:
    plan = tiny_job(store, Path("run")).build_plan(store)
    assert (plan.sequence_length, plan.batch_sequences, plan.steps) == (64, 8, 30_000 // 64 // 8)
