"""The result in three sentences, computed from the data and claiming no more than it holds."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tracking.figures import count, loss
from tracking.report_data import ReportData, RunData


def base_loss(data: ReportData, source: str) -> float | None:
    """The base model's held-out loss, else the common start of the runs' curves."""
    if source in data.base.losses:
        return data.base.losses[source]
    for run in data.runs:
        curve = run.curves.get(f"heldout/{source}/loss")
        if curve and curve[0][0] == 0:
            return curve[0][1]
    return None


def final_loss(run: RunData, source: str) -> float | None:
    """The run's held-out loss at its end."""
    if source in run.gaps:
        return run.gaps[source].final
    curve = run.curves.get(f"heldout/{source}/loss")
    return curve[-1][1] if curve else None


def mean_base(data: ReportData, sources: Iterable[str]) -> float | None:
    """Unweighted mean of the base losses; None if one is missing."""
    return _mean([base_loss(data, source) for source in sources])


def mean_final(run: RunData, sources: Iterable[str]) -> float | None:
    """Unweighted mean of the final losses; None if one is missing."""
    return _mean([final_loss(run, source) for source in sources])


def findings(data: ReportData) -> tuple[str, ...]:
    """Up to three sentences: the domain, what was kept of the general skill, the gap."""
    domain = [name for name in data.sources("domain") if name in data.measured()]
    general = [name for name in data.sources("general") if name in data.measured()]
    sentences = [_domain(data, domain), _general(data, general), _gap(data, [*domain, *general])]
    return tuple(sentence for sentence in sentences if sentence)


def caveats(data: ReportData) -> tuple[str, ...]:
    """What the numbers cannot say."""
    found = []
    if data.runs:
        seed = f" (seed {data.seed})" if data.seed is not None else ""
        found.append(
            f"Each run was made once{seed}, so nothing here says how much of a difference is chance; "
            "small ones may be noise."
        )
    budgets = {run.totals.tokens for run in data.runs}
    if len(budgets) > 1 and max(budgets) > 1.01 * min(budgets):
        found.append(
            f"The runs saw different numbers of tokens ({count(min(budgets))} to {count(max(budgets))}), "
            "so their final losses do not compare mixtures alone."
        )
    bad = [run.name for run in data.runs if any(not math.isfinite(v) for c in run.curves.values() for _, v in c)]
    if bad:
        found.append(f"{_names(bad)} recorded values that are not finite; charts leave them out.")
    return (*found, *data.notes)


def _domain(data: ReportData, sources: list[str]) -> str:
    base = mean_base(data, sources)
    ends = _ranked(data, sources)
    if not ends or base is None:
        return ""
    best, names, others = _leaders(ends)
    what = f"the held-out {sources[0]} text" if len(sources) == 1 else f"the domain ({len(sources)} sources, mean)"
    verb = "ends best on" if others and len(names) == 1 else "end level on" if len(names) > 1 else "ends on"
    verdict = f"{_against(best - base)} the base model ({loss(base)})"
    text = f"{_names(names)} {verb} {what}: {loss(best)} nats per token (lower is better), {verdict}"
    if others:
        text += "; " + ", ".join(f"{other.name} ends at {loss(value)}" for value, other in others)
    return text + "."


def _general(data: ReportData, sources: list[str]) -> str:
    base = mean_base(data, sources)
    ends = _ranked(data, sources)
    if not ends or base is None:
        return ""
    best, names, others = _leaders(ends)
    what = f"the mean held-out loss over {_names(sources)}" if len(sources) > 1 else f"held-out loss on {sources[0]}"
    verb = f"{names[0]} keeps general text best" if others and len(names) == 1 else "On general text"
    whose = "" if others and len(names) == 1 else f" of {_names(names)}"
    joint = ":" if others and len(names) == 1 else ","
    end = _against(best - base, " nats per token")
    text = f"{verb}{joint} {what}{whose} ends {end} the base model\u2019s {loss(base)}"
    if others:
        text += "; " + ", ".join(f"{other.name} ends {_against(value - base)} it" for value, other in others)
    return text + "."


def _gap(data: ReportData, sources: list[str]) -> str:
    gaps = [(run.gaps[source].depth, run, source) for run in data.runs for source in sources if source in run.gaps]
    if not gaps:
        return ""
    depth, run, source = max(gaps, key=lambda gap: gap[0])
    if depth <= 0:
        return "No run shows a stability gap: no held-out loss ever rises above the base model\u2019s."
    text = (
        f"The deepest gap is on {source}: in {run.name} the loss rises up to {depth:.3f} nats per token above the base"
    )
    recovery = run.gaps[source].recovery_tokens
    text += f" and is back there at {count(recovery)} tokens" if recovery is not None else " and is not back by the end"
    parts = []
    for other in data.runs:
        if other is run or source not in other.gaps:
            continue
        gap = other.gaps[source]
        if gap.depth <= 0:
            parts.append(f"{other.name} never rises above it")
        elif gap.recovery_tokens is None:
            parts.append(f"{other.name} rises {gap.depth:.3f} and does not return")
        else:
            parts.append(f"{other.name} rises {gap.depth:.3f} and is back at {count(gap.recovery_tokens)} tokens")
    text += ("; " + ", ".join(parts) if parts else "") + "."
    domain = [gap for gap in gaps if gap[2] in data.sources("domain")]
    if not domain or source in data.sources("domain"):
        return text
    depth, run, source = max(domain, key=lambda gap: gap[0])
    if depth <= 0:
        return f"{text} On {source} itself no run ever rises above the base."
    return f"{text} On {source} itself the largest rise is {depth:.3f}, in {run.name}."


def _ranked(data: ReportData, sources: list[str]) -> list[tuple[float, RunData]]:
    ends = [(mean_final(run, sources), run) for run in data.runs]
    finite = [(value, run) for value, run in ends if value is not None and math.isfinite(value)]
    return sorted(finite, key=lambda end: end[0])


def _against(difference: float, unit: str = "") -> str:
    return f"{abs(difference):.3f}{unit} {'below' if difference < 0 else 'above'}"


def _leaders(ends: list[tuple[float, RunData]]) -> tuple[float, list[str], list[tuple[float, RunData]]]:
    """The lowest value, the runs that share it as far as printed, and the others."""
    best = ends[0][0]
    names = [run.name for value, run in ends if loss(value) == loss(best)]
    return best, names, ends[len(names) :]


def _mean(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present and len(present) == len(values) else None


def _names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
