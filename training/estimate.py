"""What a run will cost, before anything is spent."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.plan import Plan
from pipelines.repetition import effective_tokens
from training.config import Architecture, TrainingConfig
from training.flops import flops_per_token, parameter_count

ASSUMED_UTILISATION = {"gpu": 0.40, "cpu": 0.60}
"""Share of the peak rate that training reaches. GPU: Llama-type models with FlashAttention reach 0.35 to 0.5 in published
runs. CPU: small models against a large matrix product; see benchmarks/README.md."""


@dataclass(frozen=True)
class Estimate:
    """Cost of one run."""

    tokens: int
    steps: int
    parameters: int
    flops: float
    seconds: float | None
    """Time in optimiser steps; None when the device's rate is unknown."""
    basis: str
    """What the time rests on."""
    domain_tokens: int
    domain_unique_tokens: int
    domain_effective_tokens: float
    """Unique tokens worth as much as the domain tokens seen (Muennighoff et al. 2023)."""


def estimate(
    plan: Plan,
    shape: Architecture,
    vocabulary: int,
    training: TrainingConfig,
    *,
    peak_flops: float | None,
    device: str,
    measured_tokens_per_second: float | None = None,
) -> Estimate:
    """Cost of a plan.

    Args:
        peak_flops: FLOP/s of one device, if known.
        device: ``gpu`` or ``cpu``, for the assumed utilisation.
        measured_tokens_per_second: of an earlier run of the same model and settings; preferred to the assumption.
    """
    flops = plan.total_tokens * flops_per_token(shape, vocabulary, training.sequence_length)
    seconds, basis = None, "no device rate known; give training.peak_flops"
    if measured_tokens_per_second:
        seconds = plan.total_tokens / measured_tokens_per_second
        basis = f"{measured_tokens_per_second:,.0f} tokens/s measured in an earlier run"
    elif peak_flops:
        utilisation = ASSUMED_UTILISATION[device]
        seconds = flops / (peak_flops * utilisation * training.workers)
        basis = f"{training.workers} x {peak_flops / 1e12:.3g} TFLOP/s at {utilisation:.0%} utilisation, assumed"
    domain = [use for use in plan.use() if use.role == "domain"]
    return Estimate(
        tokens=plan.total_tokens,
        steps=plan.steps,
        parameters=parameter_count(shape, vocabulary),
        flops=flops,
        seconds=seconds,
        basis=basis,
        domain_tokens=sum(use.tokens for use in domain),
        domain_unique_tokens=sum(use.unique_tokens for use in domain),
        domain_effective_tokens=sum(
            effective_tokens(use.unique_tokens, max(use.tokens, use.unique_tokens)) for use in domain
        ),
    )
