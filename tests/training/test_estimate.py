"""The cost of a plan, by hand."""

from __future__ import annotations

import pytest

from pipelines.config import MixtureConfig
from pipelines.plan import Plan, SourceSize
from pipelines.repetition import effective_tokens
from tests.helpers.runs import TINY
from training.config import TrainingConfig
from training.estimate import ASSUMED_UTILISATION, Estimate, estimate
from training.flops import flops_per_token, parameter_count

TRAINING = TrainingConfig(sequence_length=64, global_batch_tokens=512, workers=2)


def cost(peak_flops: float | None = None, measured: float | None = None, epochs: float = 4) -> Estimate:
    sizes = {"med": SourceSize("domain", 100_000), "wiki": SourceSize("general", 500_000)}
    mixture = MixtureConfig(subset_tokens=51_200, epochs=epochs, shares={"med": 0.5, "wiki": 0.5}, redraw="once")
    plan = Plan(sizes, mixture, sequence_length=64, batch_sequences=8, seed=1)
    return estimate(plan, TINY, 300, TRAINING, peak_flops=peak_flops, device="gpu", measured_tokens_per_second=measured)


def test_tokens_steps_and_flops() -> None:
    found = cost()
    assert (found.tokens, found.steps) == (4 * 51_200, 400)
    assert found.parameters == parameter_count(TINY, 300)
    assert found.flops == pytest.approx(4 * 51_200 * flops_per_token(TINY, 300, 64))
    assert found.seconds is None
    assert "training.peak_flops" in found.basis


def test_time_from_the_data_sheet() -> None:
    found = cost(peak_flops=1e12)
    assert found.seconds == pytest.approx(found.flops / (2 * 1e12 * ASSUMED_UTILISATION["gpu"]))
    assert "2 x 1 TFLOP/s at 40% utilisation, assumed" in found.basis


def test_a_measurement_is_preferred() -> None:
    found = cost(peak_flops=1e12, measured=1024.0)
    assert found.seconds == pytest.approx(200)
    assert found.basis == "1,024 tokens/s measured in an earlier run"


def test_repeated_domain_tokens_are_worth_less() -> None:
    found = cost()
    assert (found.domain_tokens, found.domain_unique_tokens) == (2 * 51_200, 25_600)
    assert found.domain_effective_tokens == pytest.approx(effective_tokens(25_600, 102_400))
    assert cost(epochs=1).domain_effective_tokens == 25_600
