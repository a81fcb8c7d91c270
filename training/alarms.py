"""Alarms on divergence, as a pure function of the records: the same ones after a resume, on any machine.

A spike is judged by the modified z-score of Iglewicz and Hoaglin (1993): (x - median) / (1.4826 MAD), where the median and
the median absolute deviation (MAD) are those of the records before it. Unlike mean and deviation they hardly move when
earlier spikes are among those records. Gradient norms are judged by their logarithm, since they vary by factors.

The last ``patience`` records must all stand out from the ``window`` records before them, and an alarm is raised when that
becomes true, not again while it lasts. An alarm tells the first and the last step that stand out, so that a rollback knows
where to go (a checkpoint before ``since``) and what to skip (the batches ``since`` to ``step``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from training.config import AlarmConfig
from training.job import Record

Kind = Literal["not_finite", "loss_spike", "gradient_spike"]
LOSS, GRADIENT = "train/loss", "train/gradient_norm"

_NORMAL = 1.4826  # MAD times this is the standard deviation of a normal distribution
_LOSS_FLOOR = 1e-3  # of the median: a curve that hardly moves has no spikes of a thousandth
_LOG_FLOOR = 1e-2  # of log gradient norm, that is 1 %


@dataclass(frozen=True)
class Alarm:
    """Something is wrong with the run."""

    kind: Kind
    step: int
    """Optimiser steps done when it was raised."""
    value: float
    """What was measured at ``step``."""
    expected: float
    """The median of the records it was compared with; NaN: there were none."""
    since: int
    """The first step that stands out: ``step``, or earlier with ``patience`` above 1."""

    def metric(self) -> dict[str, float]:
        """``alarm/<kind>``: how many times what was expected; 1 for ``not_finite``, which no curve could show."""
        finite = math.isfinite(self.value) and math.isfinite(self.expected) and self.expected != 0
        return {f"alarm/{self.kind}": self.value / self.expected if finite else 1.0}


def new_alarms(records: Sequence[Record], config: AlarmConfig) -> list[Alarm]:
    """The alarms that the last record with a loss raises. Only ``records_needed`` of them are looked at."""
    trained = [record for record in records if LOSS in record["metrics"]][-records_needed(config) :]
    if not trained:
        return []
    steps = [int(record["step"]) for record in trained]
    losses = [float(record["metrics"][LOSS]) for record in trained]
    norms = [float(record["metrics"].get(GRADIENT, math.nan)) for record in trained]
    broken = [x for x in (losses[-1], trained[-1]["metrics"].get(GRADIENT, 0.0)) if not math.isfinite(x)]
    if broken:
        known = [loss for loss in losses[:-1] if math.isfinite(loss)]
        return [Alarm("not_finite", steps[-1], broken[0], median(known) if known else math.nan, steps[-1])]
    alarms: list[Alarm] = []
    if config.loss_threshold is not None and _begins(losses, config, config.loss_threshold, _LOSS_FLOOR):
        alarms.append(_alarm("loss_spike", steps, losses, config))
    if config.gradient_threshold is not None:
        logs = [math.log(norm) if 0 < norm < math.inf else math.nan for norm in norms]
        if _begins(logs, config, config.gradient_threshold, None):
            alarms.append(_alarm("gradient_spike", steps, norms, config))
    return alarms


def all_alarms(records: Sequence[Record], config: AlarmConfig) -> list[Alarm]:
    """Every alarm of a whole run, in its order: what the loop reported as it went."""
    trained = [record for record in records if LOSS in record["metrics"]]
    needed = records_needed(config)
    ends = range(1, len(trained) + 1)
    return [alarm for end in ends for alarm in new_alarms(trained[max(0, end - needed) : end], config)]


def records_needed(config: AlarmConfig) -> int:
    """How many records with a loss the alarms look back on; a checkpoint must keep that many."""
    return config.window + config.patience + 1


def first_needed(records: Sequence[Record], config: AlarmConfig) -> int:
    """Index of the first record that later alarms can still depend on."""
    trained = [index for index, record in enumerate(records) if LOSS in record["metrics"]]
    return trained[-records_needed(config)] if len(trained) >= records_needed(config) else 0


def _begins(values: Sequence[float], config: AlarmConfig, threshold: float, relative: float | None) -> bool:
    return _stands_out(values, config, threshold, relative) and not _stands_out(
        values[:-1], config, threshold, relative
    )


def _stands_out(values: Sequence[float], config: AlarmConfig, threshold: float, relative: float | None) -> bool:
    """Whether the last ``patience`` values all lie above the ``window`` before them.

    Args:
        relative: smallest deviation that counts, as a share of the median; None: ``_LOG_FLOOR``, absolute.
    """
    before, last = _split(values, config)
    if len(before) < config.window or not all(map(math.isfinite, (*before, *last))):
        return False
    middle = median(before)
    deviation = _NORMAL * median(abs(value - middle) for value in before)
    floor = _LOG_FLOOR if relative is None else relative * abs(middle)
    return all(value - middle > threshold * max(deviation, floor) for value in last)


def _split(values: Sequence[float], config: AlarmConfig) -> tuple[Sequence[float], Sequence[float]]:
    """The window and the values that are compared with it."""
    cut = max(0, len(values) - config.patience)
    return values[max(0, cut - config.window) : cut], values[cut:]


def _alarm(kind: Kind, steps: Sequence[int], values: Sequence[float], config: AlarmConfig) -> Alarm:
    return Alarm(kind, steps[-1], values[-1], median(_split(values, config)[0]), steps[-config.patience])
