"""``best.yaml``: the recipe that a search found, each knob with the reason for its value in a comment beside it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from ground.errors import UserError
from tracking.figures import change, count
from tracking.search_data import SearchData
from tracking.search_parts import BestData
from tracking.search_text import chance

_WIDTH = 110
_LEFT_OUT = ("tuning", "runs")
"""Sections that would search or compare again."""


def best_recipe(recipe: Mapping[str, Any], data: SearchData) -> str:
    """Text of ``best.yaml``: ``recipe`` with the best recipe's mixture and learning rate, for ``load_recipe``.

    Args:
        recipe: the resolved recipe as plain values. What it says of ``mixture`` beside the knobs stays.

    Raises:
        UserError: no trial has finished, so there is no best recipe.
    """
    best = data.best
    if best is None:
        raise UserError("tuning", "no trial has finished yet, so there is no best recipe", "go on with the search")
    sections = {name: value for name, value in recipe.items() if name not in _LEFT_OUT}
    mixture = {
        **sections.get("mixture", {}),
        "subset_tokens": best.knobs.subset_tokens,
        "epochs": written_epochs(data, best),
        "shares": best.shares,
    }
    sections["mixture"] = mixture
    if best.knobs.learning_rate is not None:
        rate = float(f"{best.knobs.learning_rate:.6g}")
        sections["training"] = {**sections.get("training", {}), "learning_rate": rate}
    notes = _notes(data, best)
    blocks = [_comment(text, "") for text in _head(data, best)]
    for name, value in sections.items():
        text = yaml.safe_dump({name: value}, sort_keys=False, allow_unicode=True, width=_WIDTH)
        for field, note in notes.get(name, {}).items():
            text = text.replace(f"\n  {field}:", f"\n{_comment(note, '  ')}\n  {field}:", 1)
        blocks.append(text.rstrip("\n"))
    return "\n".join(blocks) + "\n"


def shares_of(share: float, domain: Mapping[str, float], general: Mapping[str, float]) -> dict[str, float]:
    """Share of every source: the domain's ``share`` in the proportions of ``domain``, the rest in those of ``general``.

    Sums to 1 to the last of nine digits; a source without a share is left out, as a recipe wants it.

    Raises:
        UserError: a part is asked for that no source could fill.
    """
    parts = [(share, domain, "domain"), (1 - share, general, "general")]
    whole: dict[str, float] = {}
    for part, proportions, role in parts:
        if part < 1e-9:
            continue
        total = sum(proportions.values())
        if not total > 0:
            raise UserError("tuning.space.share", f"gives {part:.3g} to {role} text, of which the recipe has no source",
                            f"add a {role} source or fix the share")  # fmt: skip
        whole |= {name: round(part * value / total, 9) for name, value in proportions.items() if value > 0}
    largest = max(whole, key=lambda name: whole[name])
    whole[largest] = round(whole[largest] + 1 - sum(whole.values()), 9)
    return {name: value for name, value in whole.items() if value > 0}


def written_epochs(data: SearchData, best: BestData) -> float:
    """E with the fewest digits that train the same sequences: the search's own has a last digit that no reader should meet."""
    pool = best.knobs.subset_tokens // data.sequence_length
    for digits in range(13):
        short = round(best.knobs.epochs, digits)
        if int(pool * short) == int(pool * best.knobs.epochs):
            return short
    return best.knobs.epochs


def _head(data: SearchData, best: BestData) -> Iterator[str]:
    knobs = best.knobs
    yield f"The best recipe that the search {data.title!r} found, trial {best.trial}. Train it: steady train best.yaml"
    yield ""
    unit = f" {data.unit}" if data.unit else ""
    yield (
        f"Expected {_name(data.domain_metric)} after {count(knobs.tokens)} tokens: {best.domain.mean:.4f} +- "
        f"{best.domain.sd:.4f}{unit}, "
        f"the base model has {data.base_domain:.4f} ({_plain(change(best.domain.mean - data.base_domain))})."
    )
    kept = (
        f"Expected {_name(data.general_metric)}: {best.general.mean:.4f} +- {best.general.sd:.4f}, the base has "
        f"{data.base_general:.4f} "
    )
    if best.within is None:
        yield kept + f"({_plain(change(best.general.mean - data.base_general))})."
        yield (
            "The search was for the whole Pareto front and prefers no point of it: this is the balanced one. "
            "With probability "
            f"{chance(best.probability)} no other finished recipe beats it in both metrics."
        )
    else:
        yield kept + f"and {data.limit:.4f} is allowed; within it with probability {chance(best.within)}."
        rivals = f" Rivals: trials {', '.join(map(str, best.rivals))}." if best.rivals else " No rival."
        yield f"Probability that no other finished recipe is better: {chance(best.probability)}.{rivals}"
    yield (
        f"Runs of this very recipe that finished: {best.seeds}. Trials: {len(data.trials)}, of which finished: "
        f"{len(data.finished)}."
    )
    yield (
        f"Spent: {count(data.settled)} of {count(data.budget)} tokens. "
        + (f"The search ended: {data.reason}." if data.reason else "The search had not ended.")
    )
    for fit in data.fits:
        yield f"Fit of {_name(fit.metric)}: {fit.verdict}."


def _notes(data: SearchData, best: BestData) -> dict[str, dict[str, str]]:
    """Section -> field -> why it has its value."""
    knobs, ranges = best.knobs, data.ranges
    share = (
        f"Domain share {knobs.share:.4g}, searched in {_range(ranges['share'])}; the published answers are 0.82 "
        "(Guo et al. 2024) and 0.30 to 0.48 (CMR 2024)."
    )
    critical = data.critical
    if critical and critical.share is not None:
        more = " or more" if critical.whole_range else ""
        share += (
            " With the other knobs as here, the general metric is expected to keep its tolerance up to a share "
            f"of {critical.share:.2f}{more}."
        )
    if len(best.shares) > 2:
        share += " Within the domain and within the general part, sources are in the proportions given to the search."
    run = f"{count(data.run_tokens)} tokens, the run budget"
    if "run_tokens" in ranges:
        run = (
            f"{count(knobs.tokens)} tokens, searched in {count(ranges['run_tokens'][0])} to "
            f"{count(ranges['run_tokens'][1])}"
        )
    training = (
        f"Peak learning rate, searched in {_range(ranges['learning_rate'])}."
        if "learning_rate" in ranges
        else "Not searched: the recipe's own."
    )
    return {
        "mixture": {
            "subset_tokens": (
                f"{'The best' if data.select == 'quality' else 'A random'} {count(knobs.subset_tokens)} tokens: "
                f"what {written_epochs(data, best):.4g} epochs leave of a run of {run}."
            ),
            "epochs": f"Searched in {_range(ranges['epochs'])}.",
            "shares": share,
        },
        "training": {"learning_rate": training},
    }


def _name(metric: str) -> str:
    return metric.replace("_", " ")


def _range(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.4g} to {ends[1]:.4g}" if ends[1] > ends[0] else f"{ends[0]:.4g} alone"


def _comment(text: str, indent: str) -> str:
    lines = textwrap.wrap(_plain(text), _WIDTH - len(indent) - 2) or [""]
    return "\n".join(f"{indent}# {line}".rstrip() for line in lines)


def _plain(text: str) -> str:
    """Signs beyond ASCII that the figures use, in ASCII: comments are read in editors of any age."""
    return text.replace("\u2212", "-").replace("\u2009", " ").replace("\u2013", "-")
