"""The parts of a search's report, as plain frozen data (``tracking/search_data.py`` holds the whole).

Tokens are counts, shares lie in 0..1, both metrics are lower-is-better in one unit, every ``sd`` is one standard deviation.
A value that is not there is None; a number that is not finite is never kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Curve = tuple[tuple[float, float], ...]
State = Literal["finished", "paused", "running", "failed", "diverged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """What the search chose of one recipe."""

    subset_tokens: int
    epochs: float
    share: float
    """Of all domain sources together."""
    learning_rate: float | None = None
    """None: not searched."""

    @property
    def tokens(self) -> float:
        """Of the whole run."""
        return self.subset_tokens * self.epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its uncertainty."""

    mean: float
    sd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BestData:
    """The recipe to hand over."""

    trial: int
    knobs: Knobs
    shares: dict[str, float]
    """Source -> share; they sum to 1."""
    value: Estimate
    """Objective at the end of the run, noise taken out; for ``pareto`` the domain metric."""
    domain: Estimate
    general: Estimate
    probability: float
    """That no other finished recipe is better; for ``pareto`` that none beats it in both metrics."""
    within: float | None
    """Probability that the general metric stays within the tolerance; None for ``pareto``."""
    rivals: tuple[int, ...]
    """Finished trials that are better with a probability of a tenth or more, the likeliest first."""
    seeds: int = 1
    """Finished trials of this very recipe."""
    safe: int | None = None
    """The finished trial with the lowest expected objective among those that keep the tolerance with a probability of 0.9 or
    more; None: there is none, or the search is a ``pareto`` one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontPoint:
    """A finished recipe that no other beats in both expected metrics."""

    trial: int
    domain: Estimate
    general: Estimate
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialData:
    """One trial."""

    number: int
    knobs: Knobs
    seed: int
    tokens: float
    """Trained on so far."""
    state: State
    reason: str
    """Why it was started."""
    domain: float | None = None
    """At its last report; None: none, or not finite."""
    general: float | None = None
    foretold_domain: Estimate | None = None
    """Said of that report before its job started; None during the first design."""
    foretold_general: Estimate | None = None
    expected: float | None = None
    """Objective at the end of its run as believed now, noise taken out; None for failed trials and for ``pareto``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobData:
    """A trial's way from one rung to the next, and what it cost."""

    number: int
    trial: int
    rung: int
    """From 0."""
    start: float
    end: float
    reserved: float
    """Tokens still promised; 0 once it ended."""
    settled: float
    """Tokens charged."""
    redone: float
    """Tokens that the trial trained twice after crashes, charged beside; at the last of its jobs."""
    state: Literal["done", "failed", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """What the search would have handed over after so many tokens."""

    spent: float
    trial: int
    value: Estimate
    """As it was believed then."""
    hindsight: float
    """Of the same recipe, as it is believed now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis of a map: values at the centres of its cells, rising."""

    name: Literal["subset_tokens", "epochs", "share", "learning_rate"]
    values: tuple[float, ...]
    log: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MapData:
    """Expectations over two knobs, the others as in the best recipe. Rows follow ``y``; None where no run is possible."""

    x: Axis
    y: Axis
    value: tuple[tuple[float | None, ...], ...]
    """Objective; for ``pareto`` the domain metric."""
    sd: tuple[tuple[float | None, ...], ...]
    """Of the domain metric."""
    general: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareCurve:
    """One metric over the domain share, the other knobs as in the best recipe."""

    metric: str
    shares: tuple[float, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    law: tuple[float, ...]
    """Mean of the law alone."""
    control: tuple[float, ...]
    """Mean of the regression alone."""
    trials: tuple[tuple[int, float, float, float], ...]
    """Finished trials: (number, share, observed metric, the same moved along the fit to the best recipe's other knobs)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalShare:
    """The largest share at which the general metric is expected to stay within the tolerance (CMR 2024)."""

    share: float | None
    """None: at no share of the range."""
    cautious: float | None
    """The same with 95 % confidence."""
    whole_range: bool
    """It is the largest share searched: the true one may be beyond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionData:
    """What was foretold of a report before its job started, and what came."""

    job: int
    trial: int
    metric: str
    mean: float
    sd: float
    law: float
    control: float
    outcome: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FitData:
    """How good the fit of one metric is."""

    metric: str
    weight: float
    """Of the law; the plain regression has the rest."""
    verdict: str
    """One sentence."""
    noise: float
    """Standard deviation of one trial around the curve: seeds."""
    count: int = 0
    """Predictions with an outcome; the four below are None without."""
    rmse: float | None = None
    rmse_law: float | None = None
    rmse_control: float | None = None
    inside_95: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A job that the search would start next."""

    trial: int
    fresh: bool
    """A new trial rather than one that goes on."""
    knobs: Knobs
    start: float
    end: float
    reason: str
    domain: Estimate
    """At the end of its run."""
    general: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicate:
    """What one more seed of the best recipe and of its nearest rival would settle."""

    rival: int
    difference: Estimate
    """Objective of the rival minus that of the best, as believed now."""
    after: float
    """Standard deviation of the difference after one more seed of both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextData:
    """What the search would do with as much budget again."""

    gain: float | None
    """Expected gain of everything left over the best; None before a trial has finished."""
    threshold: float
    """Gain below which the search ends by itself."""
    stop: str
    """Why it would do nothing more; empty when it would go on."""
    proposals: tuple[Proposal, ...] = ()
    replicate: Replicate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalist:
    """A recipe confirmed at a larger run. The objective at both."""

    trial: int
    knobs: Knobs
    """At the larger run."""
    small: float
    foretold: Estimate
    """At the larger run by the fit to the small ones, an extrapolation."""
    domain: float | None = None
    """What the larger run gave; None: not run."""
    general: float | None = None
    value: float | None = None
