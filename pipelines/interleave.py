"""Which source each position of the run belongs to: Tijdeman's chairman assignment, periodic, counted in O(1).

R. Tijdeman (1980), "The chairman assignment problem", Discrete Mathematics 32: with n sources, at each position choose,
among the sources that have fallen at least 1/(2n - 2) short by then, the one whose deadline is nearest. Every prefix
is then within 1 - 1/(2n - 2) < 1 of each source's exact share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

MAX_PERIOD = 4096  # largest denominator Q: built in some 30 ms of plain Python, shares rounded by less than 1/4096


def exact_counts(shares: Mapping[str, float]) -> dict[str, int]:
    """Shares as integers over one denominator Q <= ``MAX_PERIOD`` (the sum of the values).

    Shares whose decimal form fits such a denominator stay exact; others are rounded by largest remainder, at least 1 each.

    Raises:
        ValueError: no source, a share that is not positive, or a sum that is not 1 (within 1e-6).
    """
    if not shares or min(shares.values()) <= 0:
        raise ValueError(f"shares must be positive, got {dict(shares)}")
    if abs(math.fsum(shares.values()) - 1) > 1e-6:
        raise ValueError(f"shares must sum to 1, got {math.fsum(shares.values()):.6g}")
    fractions = {name: Fraction(str(share)) for name, share in shares.items()}
    period = math.lcm(*(fraction.denominator for fraction in fractions.values()))
    if period <= MAX_PERIOD and sum(fractions.values()) == 1:
        return {name: int(fraction * period) for name, fraction in fractions.items()}
    quotas = {name: fraction * MAX_PERIOD for name, fraction in fractions.items()}
    counts = {name: max(1, int(quota)) for name, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda name: (counts[name] - quotas[name], name))
    missing = MAX_PERIOD - sum(counts.values())
    for index in range(abs(missing)):
        # Missing ones go to the largest remainders; surplus (from the floor of 1) is taken from the most over-served of
        # those that can give one away.
        name = (
            by_remainder[index % len(by_remainder)]
            if missing > 0
            else max((n for n in counts if counts[n] > 1), key=lambda n: counts[n] - quotas[n])
        )
        counts[name] += 1 if missing > 0 else -1
    return counts


class Interleaving:
    """The periodic sequence of sources. ``period`` is Q; source i occurs ``counts[i]`` times in each period."""

    def __init__(self, counts: tuple[int, ...]) -> None:
        self.counts = counts
        self.period = sum(counts)
        layout = _chairman(counts)
        self._layout: NDArray[np.int64] = np.array(layout, dtype=np.int64)
        one_hot = np.zeros((self.period + 1, len(counts)), dtype=np.int64)
        one_hot[np.arange(1, self.period + 1), self._layout] = 1
        self._prefix: NDArray[np.int64] = np.cumsum(one_hot, axis=0)

    def sources(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Source index at each position, same shape."""
        periods = positions // self.period
        found: NDArray[np.int64] = self._layout[positions - periods * self.period]  # faster than % in numpy
        return found

    def count(self, source: int, position: int) -> int:
        """How many of the first ``position`` positions belong to ``source``."""
        periods, rest = divmod(position, self.period)
        return periods * self.counts[source] + int(self._prefix[rest, source])

    def count_many(self, source: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """``count`` for an array of positions, same shape."""
        periods = positions // self.period
        before: NDArray[np.int64] = self._prefix[positions - periods * self.period, source]
        return periods * self.counts[source] + before


def _chairman(counts: tuple[int, ...]) -> list[int]:
    """One period, in integers only, so that every machine lays out the same one."""
    n, period = len(counts), sum(counts)
    if n == 1:
        return [0] * period
    scale = 2 * n - 2
    given = [0] * n
    layout = []
    for position in range(1, period + 1):
        best, best_deadline = -1, 0
        for source, quota in enumerate(counts):
            # Shortfall (quota * position / Q - given) in units of 1 / (scale * Q).
            shortfall = scale * (quota * position - given[source] * period)
            if shortfall < period:  # below 1 / scale: serving it now could put it too far ahead
                continue
            deadline = scale * period - period - shortfall
            if best < 0 or deadline * counts[best] < best_deadline * quota:
                best, best_deadline = source, deadline
        layout.append(best)
        given[best] += 1
    return layout
