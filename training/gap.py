"""The stability gap of a curve, in numbers (definitions: docs/concepts.md).

Guo et al. (2024) show the gap but define no scalar; depth, recovery and area follow the worst-case view of De Lange et
al. (2022). All work on a score m(t) where higher is better; a loss enters with its sign changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class GapMetrics:
    """Numbers of one curve against its base m(0)."""

    depth: float
    """max(0, m0 - min m), in the score's unit."""
    recovery_tokens: float | None
    """First t after the minimum with m(t) >= m0; 0 without a gap, None when the curve never comes back."""
    area: float
    """Integral of max(0, m0 - m(t)) dt along the straight lines between the points, score x tokens."""
    peak: float
    """max m(t) over all points, the base included."""
    tokens_to_peak: float
    """Where the peak is first reached."""
    forgetting: float
    """m0 - m(end): what is lost in the end; negative where the run gained."""


def gap_metrics(tokens: Sequence[float], scores: Sequence[float]) -> GapMetrics:
    """Gap metrics of ``scores`` (higher is better) measured at ``tokens`` (ascending, the first is the base's).

    Raises:
        ValueError: fewer than one point, different lengths, or tokens that do not ascend.
    """
    if not tokens or len(tokens) != len(scores):
        raise ValueError(f"need as many tokens as scores and at least one, got {len(tokens)} and {len(scores)}")
    if any(b <= a for a, b in pairwise(tokens)):
        raise ValueError("tokens must ascend")
    base = scores[0]
    lowest = min(range(len(scores)), key=scores.__getitem__)
    depth = max(0.0, base - scores[lowest])
    recovery: float | None = 0.0
    if depth > 0:
        later = range(lowest + 1, len(scores))
        recovery = next((_crossing(tokens, scores, i, base) for i in later if scores[i] >= base), None)
    best = max(range(len(scores)), key=scores.__getitem__)
    area = sum(
        _area_below(b - a, base - x, base - y)
        for (a, b), (x, y) in zip(pairwise(tokens), pairwise(scores), strict=True)
    )
    return GapMetrics(depth, recovery, area, scores[best], float(tokens[best]), base - scores[-1])


def _crossing(tokens: Sequence[float], scores: Sequence[float], index: int, level: float) -> float:
    """Where the line from point ``index - 1`` (below ``level``) to ``index`` (at or above it) meets ``level``."""
    x0, x1, y0, y1 = tokens[index - 1], tokens[index], scores[index - 1], scores[index]
    return x0 + (x1 - x0) * (level - y0) / (y1 - y0)


def _area_below(width: float, left: float, right: float) -> float:
    """Integral of max(0, line) over ``width``, where the line goes from ``left`` to ``right``."""
    if left <= 0 and right <= 0:
        return 0.0
    if left >= 0 and right >= 0:
        return width * (left + right) / 2
    positive, negative = max(left, right), min(left, right)
    return width * positive * positive / (positive - negative) / 2
