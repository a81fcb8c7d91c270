"""Amounts of compute in one unit, tokens, by stated formulas.

tokens = FLOPs / (FLOPs per token)            6 N + 12 n_layers d_model L, ``training/flops.py``
tokens = GPU-hours x 3,600 x (tokens per second of one GPU)        measured, or stated by the user
"""

from __future__ import annotations

from dataclasses import dataclass

from ground.errors import UserError
from tuning.config import Amount


@dataclass(frozen=True)
class Rates:
    """What a token costs."""

    flops_per_token: float | None = None
    """Forward and backward pass of the model trained."""
    tokens_per_device_second: float | None = None
    """Measured: tokens of all workers over seconds times devices, checkpoints and evaluation included."""


def to_tokens(amount: Amount, rates: Rates, field: str) -> float:
    """Tokens that an amount buys.

    Args:
        field: the recipe's name of the amount, for the error.

    Raises:
        UserError: the rate that the unit needs is not known.
    """
    if amount.unit == "tokens":
        return amount.value
    if amount.unit == "flops":
        if rates.flops_per_token is None:
            raise UserError(field, "is in FLOPs and the model's FLOPs per token are unknown", "give it in tokens")
        return amount.value / rates.flops_per_token
    if rates.tokens_per_device_second is None:
        raise UserError(
            field, "is in GPU-hours and no throughput was measured yet", "give it in tokens, or measure with a run"
        )
    return amount.value * 3600 * rates.tokens_per_device_second


def whole_steps(tokens: float, step_tokens: int) -> int:
    """Tokens of the most whole steps that fit: what a run may use."""
    return int(tokens / step_tokens * (1 + 1e-12)) * step_tokens


def reservation(start: float, end: float, step_tokens: int) -> int:
    """Tokens to reserve for a job from ``start`` to ``end``: rounded up to whole steps, since a step is never half done."""
    return -(-round(end - start) // step_tokens) * step_tokens


@dataclass(frozen=True)
class Budgets:
    """Both budgets in tokens."""

    whole: float
    run: int
    """A multiple of the step."""


def resolve(
    budget: Amount, run_budget: Amount, rates: Rates, step_tokens: int, first_rung: float, held: float = 0.0
) -> Budgets:
    """Both budgets in tokens, checked against each other.

    Args:
        held: tokens of the whole that are kept for the confirmation; the budget returned is what the trials may spend.

    Raises:
        UserError: a run is less than a step, or the whole does not pay one run and four first rungs, with the arithmetic.
    """
    given = to_tokens(budget, rates, "tuning.budget")
    whole = given - held
    run = whole_steps(to_tokens(run_budget, rates, "tuning.run_budget"), step_tokens)
    if run < step_tokens:
        raise UserError("tuning.run_budget", f"buys less than one step of {step_tokens:,} tokens", "raise it")
    least = run * (1 + 4 * first_rung)
    if whole < least:
        raise UserError(
            "tuning.budget",
            f"is {given:,.0f} tokens; one run of {run:,} and four trials to the first rung need {least:,.0f}"
            + (f", the confirmation {held:,.0f} more" if held else ""),
            "raise it or lower tuning.run_budget",
        )
    return Budgets(whole, run)
