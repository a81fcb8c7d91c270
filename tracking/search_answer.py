"""The answer of a search in a few sentences, and what it does not say. Plain text."""

from __future__ import annotations

import math

from tracking.figures import count, duration, percent
from tracking.search_data import SearchData
from tracking.search_parts import BestData
from tracking.search_text import chance, epochs, fine, knobs, listed, rate, signed, spelled, with_error

_EDGE = 0.03
"""Part of a range that counts as its end."""


def sentences(data: SearchData) -> list[str]:
    """What to train, what it will give, how sure that is, what it cost."""
    if data.best is None:
        begun = [trial for trial in data.trials if trial.tokens > 0]
        tried = f"{len(data.trials)} trials were started" if data.trials else "No trial was started"
        lost = sum(trial.state in ("failed", "diverged") for trial in data.trials)
        bad = f", {lost} of them failed or diverged" if lost else ""
        return [
            f"There is no best recipe yet: no trial has reached the end of its run. {tried}{bad}"
            + (f"; the furthest is at {count(max(trial.tokens for trial in begun))} tokens." if begun else "."),
            _cost(data),
        ]
    return [_what(data), _expected(data), _sure(data), _cost(data)]


def caveats(data: SearchData) -> list[str]:
    """What a reader should know before trusting the answer."""
    best, found = data.best, []
    if best is None:
        return []
    if best.within is not None and best.within < 0.9:
        found.append(_tolerance(data, best))
    if best.seeds == 1:
        found.append("The best recipe finished with one seed; what is expected of it leans on its neighbours.")
    for name, words in (("epochs", "epochs"), ("share", "domain share"), ("learning_rate", "learning rate")):
        end = _at_the_end(data, name)
        if end:
            found.append(
                f"Its {words} {'are' if name == 'epochs' else 'is'} at the {end} end of the range: a wider one "
                "may hold a better recipe."
            )
    ahead = data.next.gain if data.next and data.kind == "tolerance" else None
    noise = next((fit.noise for fit in data.fits if fit.metric == data.domain_metric), 0.0)
    if ahead is not None and noise and ahead > noise:
        found.append(
            f"More budget would pay: what has not been tried is expected to gain another {fine(ahead)} of the objective, "
            f"{ahead / noise:.2g} times the noise of one trial."
        )
    unused = [spelled(fit.metric) for fit in data.fits if not fit.weight]
    if unused:
        found.append(f"The published law is not used for {listed(unused)}: plain regression foretells better.")
    diverged = [str(trial.number) for trial in data.trials if trial.state == "diverged"]
    if diverged:
        found.append(f"Trial{'s' * (len(diverged) > 1)} {listed(diverged)} diverged; near them nothing more was tried.")
    failed = [str(trial.number) for trial in data.trials if trial.state == "failed"]
    if failed:
        found.append(f"Trial{'s' * (len(failed) > 1)} {listed(failed)} failed and went on no more.")
    if data.earlier:
        found.append(
            f"What is expected rests on {data.earlier} trials of earlier searches too, which are not shown here."
        )
    if data.sampler != "laws":
        found.append(
            f"Trials were chosen by {data.sampler}; laws and regression were fitted afterwards, for this report."
        )
    return found


def _tolerance(data: SearchData, best: BestData) -> str:
    """What it means that the tolerance may not be kept, and the recipe that keeps it."""
    over = best.general.mean - data.limit
    if over > 0:
        text = (
            f"The {spelled(data.general_metric)} is expected {over:.4f} above its tolerance: the objective charges "
            f"{data.penalty:g} times that and still prefers this recipe."
        )
    else:
        text = (
            f"The tolerance is kept with probability {chance(best.within or 0)} only: the best recipe lies at its "
            "edge, where "
            "a little more domain text is worth as much as it costs."
        )
    safe = next((trial for trial in data.trials if trial.number == best.safe), None)
    if safe is None:
        return f"{text} No finished recipe keeps it with a probability of 0.9; a lower share would."
    return (
        f"{text} The best finished recipe that keeps it with a probability of 0.9 or more is trial {safe.number} "
        f"({knobs(safe.knobs)}), with an expected objective of {fine(safe.expected)} against {fine(best.value.mean)}."
    )


def _what(data: SearchData) -> str:
    best = data.best
    assert best is not None
    found = best.knobs
    times = "once" if epochs(found.epochs) == "1" else f"for {epochs(found.epochs)} epochs"
    mixed = (
        f"with {percent(found.share)} of every batch from the domain"
        if found.share < 1
        else "with nothing but domain text"
    )
    speed = f", at a peak learning rate of {rate(found.learning_rate)}" if found.learning_rate is not None else ""
    lead = "Of the front, the balanced recipe is to train" if data.kind == "pareto" else "Train"
    subset = "the best" if data.select == "quality" else "a random"
    return f"{lead} on {subset} {count(found.subset_tokens)} tokens {times}, {mixed}{speed} (trial {best.trial})."


def _expected(data: SearchData) -> str:
    best = data.best
    assert best is not None
    unit = f" {data.unit}" if data.unit else ""
    gain = best.domain.mean - data.base_domain
    domain = (
        f"After {count(best.knobs.tokens)} tokens the {spelled(data.domain_metric)} is expected at "
        f"{with_error(best.domain)}{unit}, "
        f"{abs(gain):.3f} {'below' if gain < 0 else 'above'} the base model ({data.base_domain:.3f})"
    )
    general = (
        f"the {spelled(data.general_metric)} at {with_error(best.general)}, "
        f"{signed(best.general.mean - data.base_general)} against the base"
    )
    if best.within is None:
        return f"{domain}, and {general}."
    return f"{domain}; {general}, where {data.epsilon:+g} is allowed (kept with probability {chance(best.within)})."


def _sure(data: SearchData) -> str:
    best = data.best
    assert best is not None
    if data.kind == "pareto":
        others = len(data.front) - 1
        return (
            f"With probability {chance(best.probability)} no other finished recipe beats it in both metrics. The "
            "front has "
            f"{others} other recipe{'s' * (others != 1)}, none preferred: balanced means the lowest sum of both "
            "metrics over their spread."
        )
    if len(data.finished) == 1:
        return "It is the only trial that reached the end of its run, so nothing can be said of rivals."
    if not best.rivals:
        return f"With probability {chance(best.probability)} no other finished recipe is better; none comes close."
    rivals = listed([str(number) for number in best.rivals])
    many = len(best.rivals) > 1
    better = "each is" if many else "it is"
    return (
        f"With probability {chance(best.probability)} no other finished recipe is better. "
        f"{'Trials' if many else 'Trial'} {rivals} {'are rivals' if many else 'is a rival'}, {better} better with "
        "a probability of a tenth or more; "
        f"the expected objective of the best is {fine(best.value.mean)} \u00b1 {fine(best.value.sd)}."
    )


def _cost(data: SearchData) -> str:
    ended = len(data.finished)
    spent = (
        f"The search spent {count(data.settled)} of {count(data.budget)} tokens "
        f"({percent(data.settled / data.budget, 0)})"
    )
    spent += (
        f" on {len(data.trials)} trials, {ended or 'none'} of which reached the end of their runs"
        if data.trials
        else ""
    )
    spent += f", in {duration(data.seconds)}" if data.seconds else ""
    return f"{spent}. It ended because {_why(data.reason)}." if data.reason else f"{spent}. It has not ended."


def _why(reason: str) -> str:
    if reason.startswith("expected gain"):
        return f"little is left to gain: {reason}"
    if "tokens are left" in reason:
        return f"the budget is used up: {reason}"
    return reason


def _at_the_end(data: SearchData, name: str) -> str:
    """``lower`` or ``upper`` when the best recipe's knob is at an end of its range that could be moved."""
    ends, best = data.ranges.get(name), data.best
    value = getattr(best.knobs, name) if best else None
    if ends is None or value is None or ends[1] <= ends[0]:
        return ""
    low, high = ends
    at = (value - low) / (high - low) if name == "share" else math.log(value / low) / math.log(high / low)
    if at <= _EDGE and not (name == "epochs" and low <= 1):
        return "lower"
    return "upper" if at >= 1 - _EDGE and not (name == "share" and high >= 1) else ""
