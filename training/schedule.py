"""Learning rate as a pure function of the step, so that resuming needs no scheduler state.

Sources: cosine with 10 % warm-up, Guo et al. 2024 App. A; re-warm and re-decay, Ibrahim et al. 2024 (linear warm-up of
1 %, cosine to 10 %); reuse, Parmar et al. 2024 (no warm-up, cosine from the last pre-training rate to 1/100);
warm-up-stable-decay, Hu et al. 2024 (MiniCPM), linear decay.
"""

from __future__ import annotations

import math

from training.config import ScheduleConfig

_WARMUP = {"cosine": 0.1, "rewarm": 0.01, "reuse": 0.0, "wsd": 0.01, "constant": 0.01}
_FINAL = {"cosine": 0.1, "rewarm": 0.1, "reuse": 0.01, "wsd": 0.0, "constant": 1.0}


def learning_rate(schedule: ScheduleConfig, peak: float, step: int, steps: int) -> float:
    """Rate of optimiser step ``step`` (0-based) of ``steps``; warm-up ends at ``peak``, the last step has the final rate."""
    warmup_ratio = _WARMUP[schedule.kind] if schedule.warmup_ratio is None else schedule.warmup_ratio
    final = peak * (_FINAL[schedule.kind] if schedule.final_ratio is None else schedule.final_ratio)
    warmup = round(warmup_ratio * steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    last = max(steps - 1, 1)
    if schedule.kind == "constant":
        return peak
    if schedule.kind == "wsd":
        start = max(warmup, steps - round(schedule.decay_ratio * steps))
        if step < start:
            return peak
        return final + (peak - final) * (last - step) / max(steps - start, 1)  # exactly final at the end, never below 0
    progress = min((step - warmup) / max(last - warmup, 1), 1.0)
    return final + (peak - final) * (1 + math.cos(math.pi * progress)) / 2
