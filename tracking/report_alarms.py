"""Alarms in the report: what a run's own numbers said was wrong, where, and what became of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tracking.figures import count
from tracking.html import mark_runs
from tracking.report_data import RunData

_PREFIX = "alarm/"
_WORDS = {
    "not_finite": "loss or gradients not finite",
    "loss_spike": "loss spike",
    "gradient_spike": "gradient spike",
}
_LISTED = 6
"""Alarms of one kind of one run that are told one by one."""


@dataclass(frozen=True, slots=True)
class RunAlarm:
    """One alarm of a run."""

    kind: str
    tokens: int
    times: float
    """How many times what was expected; 1 where nothing can be compared."""

    @property
    def words(self) -> str:
        """What it is."""
        return _WORDS.get(self.kind, self.kind.replace("_", " "))

    @property
    def where(self) -> str:
        """Where it was, and how large."""
        size = "" if self.times == 1 or not math.isfinite(self.times) else f" ({self.times:.1f}\u00d7 the expected)"
        return f"{count(self.tokens)} tokens{size}"


def alarms_of(run: RunData) -> list[RunAlarm]:
    """The run's alarms in the order of tokens, from its ``alarm/<kind>`` metrics."""
    found = [
        RunAlarm(name.removeprefix(_PREFIX), tokens, value)
        for name, curve in run.curves.items()
        if name.startswith(_PREFIX)
        for tokens, value in curve
    ]
    return sorted(found, key=lambda alarm: (alarm.tokens, alarm.kind))


def alarm_list(runs: Sequence[RunData]) -> str:
    """All alarms in words, and how often a run went back; empty when there were none."""
    items = [
        f"<li>{mark_runs([run.name for run in runs], line)}</li>"
        for run in runs
        for line in (*_alarm_lines(run), *_rollback_lines(run))
    ]
    return f'<h3>Alarms</h3><ul class="alarms">{"".join(items)}</ul>' if items else ""


def last_value(run: RunData, metric: str) -> int:
    """The highest value of a counter, 0 when it was not recorded."""
    return round(max((value for _, value in run.curves.get(metric, ())), default=0))


def _alarm_lines(run: RunData) -> list[str]:
    alarms = alarms_of(run)
    lines = []
    for kind in dict.fromkeys(alarm.kind for alarm in alarms):
        same = [alarm for alarm in alarms if alarm.kind == kind]
        places = ", ".join(alarm.where for alarm in same[:_LISTED])
        rest = f" and {len(same) - _LISTED} more" if len(same) > _LISTED else ""
        lines.append(f"{run.name}: {same[0].words} at {places}{rest}.")
    return lines


def _rollback_lines(run: RunData) -> list[str]:
    times = last_value(run, "train/rollbacks")
    if not times:
        return []
    skipped = last_value(run, "train/skipped_steps")
    often = "once" if times == 1 else f"{times} times"
    left_out = f"left out the batches of {skipped} step{'s' if skipped > 1 else ''}" if skipped else "left out nothing"
    return [f"{run.name} went back to a checkpoint {often} and {left_out}."]
