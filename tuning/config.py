"""What a search may do: budgets, ranges, objective, rungs. Every default says why."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ground.config import Section

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Unit = Literal["tokens", "flops", "gpu_hours"]


class Amount(Section):
    """An amount of compute. FLOPs and GPU-hours become tokens by the formulas of ``tuning/budget.py``."""

    value: Positive
    """How much, in ``unit``."""
    unit: Unit = "tokens"
    """``tokens`` trained on, ``flops`` of forward and backward passes, or ``gpu_hours`` of all workers together."""


class Range(Section):
    """A closed range of a number, both ends allowed; equal ends fix it."""

    low: Positive
    """Smallest value."""
    high: Positive
    """Largest value."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        return self


class SpaceConfig(Section):
    """The ranges searched. The subset follows from the others: S = run tokens / E."""

    epochs: Range = Range(low=1, high=16)
    """E. Effective tokens saturate near 16 repetitions (Muennighoff et al. 2023); the paper's best is 4."""
    share: Range = Range(low=0.1, high=1)
    """Share of the domain in every batch. Wide, because the published answers disagree: 0.82 (Guo et al. 2024) against 0.30
    to 0.48 (CMR 2024)."""
    learning_rate: Range | None = None
    """Peak learning rate, searched on a logarithmic scale; absent: the recipe's own for every trial."""
    cheapest: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Smallest run as a fraction of ``run_budget``. 1 keeps every trial on the iso-budget surface; less lets the search find
    recipes that are cheaper and no worse."""
    min_steps: Annotated[int, Field(ge=1)] = 20
    """Fewest optimiser steps of a run: below this a warm-up and a decay cannot be told apart from noise."""


class ObjectiveConfig(Section):
    """What is best."""

    kind: Literal["tolerance", "pareto"] = "tolerance"
    """``tolerance``: the lowest domain metric whose general metric stays within ``epsilon`` of the base. ``pareto``: the front
    of both, none preferred."""
    domain_metric: str = "domain_loss"
    """Metric to lower."""
    general_metric: str = "general_loss"
    """Metric to hold."""
    epsilon: Annotated[float, Field(ge=0)] = 0.05
    """Rise of the general metric that is allowed; 0.05 is the tolerance of CMR (2024)."""
    penalty: Annotated[float, Field(ge=1)] = 2.0
    """Cost of each unit above the tolerance, in units of the domain metric. Above the exchange rate of the two metrics at the
    best point (0.5 to 1.5 in the analytic landscapes), so that the penalised optimum is the constrained one."""


class TrialConfig(Section):
    """What trials do otherwise than the recipe's own run: the proxy, where there is one."""

    model: dict[str, Any] = Field(default_factory=dict)
    """Fields of ``model`` to replace: a smaller model of the same tokenizer."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Fields of ``training`` to replace: fewer workers, a smaller global batch."""
    evaluation: dict[str, Any] = Field(default_factory=dict)
    """Fields of ``evaluation`` to replace: fewer points or held-out sequences."""


class ConfirmConfig(Section):
    """A second look at the best recipes, at a larger run and with the recipe's own settings, paid from the same budget."""

    run_budget: Amount
    """The run of a finalist: the subset grows with it, the epochs stay, so that repetition is the same."""
    count: Annotated[int, Field(ge=1)] = 3
    """Finalists. Three tell whether ranks kept, at the cost of three runs."""


class TuningConfig(Section):
    """A search for the best recipe under one budget."""

    budget: Amount
    """Everything the search may spend, confirmation included. Never exceeded."""
    run_budget: Amount
    """The run each trial stands for."""
    trial: TrialConfig = TrialConfig()
    """What trials do otherwise than the recipe's own run."""
    confirm: ConfirmConfig | None = None
    """Train the best recipes again at a larger run; absent: the search ends with its own runs."""
    space: SpaceConfig = SpaceConfig()
    """The ranges searched."""
    objective: ObjectiveConfig = ObjectiveConfig()
    """What is best."""
    rungs: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.25, 0.5, 1.0)
    """Fractions of a run at which a trial reports and may be stopped; the last is 1. A quarter shows most of the stability gap
    and its recovery; every promotion doubles the cost, as in ASHA with a reduction factor of 2."""
    max_concurrent: Annotated[int, Field(ge=1)] = 1
    """Trials at once. Decision k uses the results of decisions up to k - ``max_concurrent`` and no others, so that the search
    is the same whatever finishes first; with many at once some workers wait at times."""
    earlier: tuple[str, ...] = ()
    """Work folders of other searches over the same store. What they tried counts as known where the trials' settings and the
    run are the same, so that this search goes on where they ended; else it begins with their best recipes."""
    initial: Annotated[int, Field(ge=4)] = 8
    """Trials before the laws are asked: the paper's recipes, then a space-filling design."""
    sampler: Literal["laws", "tpe", "random"] = "laws"
    """``laws``: draws from the stacked laws and regression. ``tpe``: Optuna's. ``random``: none."""
    replicates: Annotated[int, Field(ge=1)] = 3
    """Seeds for a candidate for best whose rivals are within noise."""
    patience: Annotated[float, Field(ge=0)] = 0.15
    """The search ends when the expected gain of what is left is below this part of the noise of one trial. 0: spend all."""
    seed: int = 17
    """Chooses every proposal; with the same history the same ones follow."""

    @model_validator(mode="after")
    def _rungs_end_at_one(self) -> Self:
        if list(self.rungs) != sorted(set(self.rungs)) or self.rungs[-1] != 1 or self.rungs[0] <= 0:
            raise ValueError(f"rungs {self.rungs} must rise from above 0 to 1")
        return self
