"""The ranking scores made from an n-gram model's costs; lower is better. Every sum is one of integers, so that a score is the
same to the last bit however documents are batched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.quality.costs import CostModel, Costs, Tokens
from pipelines.quality.table import SCALE

Scores = NDArray[np.float64]

_WORSE_HALF_WEIGHT = 3
_MEAN_BITS = 32  # a mean cost is below 2**31


class Scorer(Protocol):
    """Scores documents. One to a process."""

    def __call__(self, tokens: Sequence[Tokens], texts: Sequence[str]) -> Scores:
        """[documents] scores of documents given as tokens (with or without end-of-document token) and as text.

        Lower is better; empty documents get infinity. A score depends on its document alone.
        """


@dataclass(frozen=True)
class PerplexityScorer:
    """Mean negative log10 probability per unit, end of document included: 10**score is KenLM's perplexity."""

    reference: CostModel

    def __call__(self, tokens: Sequence[Tokens], texts: Sequence[str]) -> Scores:
        """See ``Scorer``."""
        costs = self.reference.costs(tokens, texts)
        return _per_unit(_sums(costs), costs)


@dataclass(frozen=True)
class DifferenceScorer:
    """Cross-entropy difference per unit, H_reference - H_general in log10 (Moore & Lewis 2010, "Intelligent Selection of
    Language Model Training Data", section 2)."""

    reference: CostModel
    general: CostModel

    def __call__(self, tokens: Sequence[Tokens], texts: Sequence[str]) -> Scores:
        """See ``Scorer``."""
        reference, general = self.reference.costs(tokens, texts), self.general.costs(tokens, texts)
        if len(reference.values) == len(general.values):  # the same units, as far as can be told
            return _per_unit(_sums(reference) - _sums(general), reference)
        return _per_unit(_sums(reference), reference) - _per_unit(_sums(general), general)


@dataclass(frozen=True)
class RobustScorer:
    """Perplexity with three guards, in log10 per unit (``robust_scores``)."""

    reference: CostModel
    ceiling: float
    window: int
    doubt: int
    doubt_cost: float
    """log10 cost of a unit of doubt: ``CostModel.unigram_cost``."""

    def __call__(self, tokens: Sequence[Tokens], texts: Sequence[str]) -> Scores:
        """See ``Scorer``."""
        costs = self.reference.costs(tokens, texts)
        return robust_scores(costs, self.ceiling, self.window, self.doubt, self.doubt_cost)


def robust_scores(costs: Costs, ceiling: float, window: int, doubt: int, doubt_cost: float) -> Scores:
    """Mean cost per unit, with the costs of single units cut, the worse half of windows counted more, short texts doubted.

    The end of a document counts as a unit, so that a text which stops in mid-sentence pays for it; n units in all.

    1. A unit costs at most ``ceiling``: one unknown term moves a text by less than 3 ceiling / n, a run of them makes it as bad
       as a text can be.
    2. The text is cut into equal windows of about ``window`` units. m is the mean of the windows' means, those of the worse
       half (rounded up) weighted threefold. So it is the plain mean for a short or even text, and more for a text that is good
       in one half and bad in the other.
    3. score = (n m + doubt * doubt_cost) / (n + doubt): the posterior mean of a text's cost under a prior worth ``doubt`` units
       (shrinkage as in Efron & Morris 1975, "Data Analysis Using Stein's Estimator"), whose mean is what domain words without
       any context cost.

    No cost of a unit can rise without the score rising or staying. Of two texts with the same m below ``doubt_cost``, the longer
    one is better.
    """
    units = np.diff(costs.offsets)
    values = np.minimum(costs.values, int(ceiling * SCALE))
    windows = np.maximum(1, (units + window // 2) // window)
    first = np.cumsum(windows) - windows
    document = np.repeat(np.arange(len(units)), windows)
    rank = np.arange(len(document)) - first[document]
    low, high = (rank * units[document]) // windows[document], ((rank + 1) * units[document]) // windows[document]
    means = _segment_sums(values, costs.offsets[document] + low) // (high - low)
    # Worst first within each document: the rank of a window then tells which half it belongs to.
    means = (document << _MEAN_BITS) - np.sort((document << _MEAN_BITS) - means)
    weights = np.where(2 * rank < windows[document], _WORSE_HALF_WEIGHT, 1)
    mean = _segment_sums(weights * means, first) / (_segment_sums(weights, first) * SCALE)
    return np.where(units > 1, (units * mean + doubt * doubt_cost) / (units + doubt), np.inf)


def _sums(costs: Costs) -> NDArray[np.int64]:
    return _segment_sums(costs.values, costs.offsets[:-1])


def _per_unit(sums: NDArray[np.int64], costs: Costs) -> Scores:
    return np.where(costs.units > 0, sums / ((costs.units + 1) * SCALE), np.inf)


def _segment_sums(values: NDArray[np.integer], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums of the segments that begin at ``starts`` (none is empty)."""
    return np.add.reduceat(values, starts, dtype=np.int64) if len(starts) else np.zeros(0, dtype=np.int64)
