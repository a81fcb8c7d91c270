"""The training section: what does not divide is refused with the arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from training.config import ScheduleConfig, TrainingConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sequence_length": 1000, "global_batch_tokens": 4096},
            r"\(4096\) is no multiple of sequence_length \(1000\)",
        ),
        ({"workers": 3}, "512 sequences, which 3 workers x micro_batch 1 do not divide"),
        ({"workers": 4, "micro_batch": 5}, "4 workers x micro_batch 5 do not divide"),
        ({"zero_stage": 4}, "less than or equal to 3"),
        ({"learning_rate": 0}, "greater than 0"),
        ({"gradient_clip": -1}, "greater than 0"),
        ({"workers": 3, "micro_batch": "auto"}, "512 sequences, which 3 workers do not divide"),
        ({"micro_batch": "most"}, "valid integer"),
        ({"precision": "fp8"}, "'auto', 'fp32', 'bf16' or 'fp16'"),
        ({"precision": "fp16", "zero_stage": 0}, "fp16 needs zero_stage 1"),
        ({"offload": "optimizer", "zero_stage": 0}, "optimizer needs zero_stage 1"),
        ({"offload": "parameters", "zero_stage": 2}, "parameters needs zero_stage 3"),
        ({"lr": 1}, "extra_forbidden"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainingConfig.model_validate(changes)


def test_a_global_batch_is_counted_in_sequences() -> None:
    assert TrainingConfig().batch_sequences == 512
    assert TrainingConfig(sequence_length=8, global_batch_tokens=64, workers=2, micro_batch=2).batch_sequences == 8


@pytest.mark.parametrize("changes", [{"kind": "linear"}, {"warmup_ratio": 1.0}, {"decay_ratio": 0}, {"final_ratio": 2}])
def test_unknown_schedules_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ScheduleConfig.model_validate(changes)
