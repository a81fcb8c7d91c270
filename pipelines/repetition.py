"""What repeated tokens are worth (Muennighoff et al. 2023, "Scaling Data-Constrained Language Models", section 3 and App. A)."""

from __future__ import annotations

import math

R_STAR = 15.387756
"""Fitted decay constant R_D* for data (from scratch on C4, 7 M to 9 B parameters; not fitted on continued pre-training)."""


def effective_tokens(unique: float, seen: float) -> float:
    """D' = U + U R* (1 - exp(-R / R*)), R = D / U - 1: unique tokens worth as much as ``seen`` tokens over ``unique`` ones.

    Raises:
        ValueError: a count is negative, or more is unique than seen.
    """
    if unique < 0 or seen < unique:
        raise ValueError(f"need 0 <= unique <= seen, got {unique} and {seen}")
    if unique == 0:
        return 0.0
    repeats = seen / unique - 1
    return unique + unique * R_STAR * (1 - math.exp(-repeats / R_STAR))
