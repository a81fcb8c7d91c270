"""The finalists of a search, trained again at a larger run with the recipe's own settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from cluster.tune_setup import Setup
from ground.files import write_atomic
from tuning.base import Base
from tuning.blend import mixture_of
from tuning.driver import Driver
from tuning.history import History, Job, Result
from tuning.objective import tolerance
from tuning.outcome import Confirmed
from tuning.propose import Decision, Planner, Stop
from tuning.proxy import Finalist, finalists
from tuning.space import Point

CONFIRMED = "confirmed.yaml"


def choose(setup: Setup, history: History, base_general: float) -> list[Finalist]:
    """The recipes to confirm, best first; fewer where fewer have finished.

    Args:
        base_general: the general metric of the trials' base.
    """
    larger, config = setup.confirmation, setup.config
    assert larger is not None and config.confirm is not None
    survey = Planner(setup.space, config, base_general).survey(history)
    if survey is None:
        return []
    scalar = tolerance(config.objective, base_general)
    domain = larger.space.limits.domain_tokens
    return finalists(survey, scalar, config.confirm.count, larger.enlargement, domain)


def confirming(setup: Setup, chosen: Sequence[Finalist]) -> Callable[[History, int, float], Decision]:
    """A decider that runs every finalist once, to its end."""

    def decide(_: History, number: int, __: float) -> Decision:
        if number >= len(chosen):
            return Decision(Stop("all finalists are confirmed"), None)
        point = _whole(setup, chosen[number])
        # Not the seed that the finalist was chosen with.
        seed = setup.config.seed * 1_000_003 + 500_000 + number
        end = round(point.tokens / setup.space.limits.step_tokens) * setup.space.limits.step_tokens
        return Decision(Job(number, number, point, seed, 0, end, f"confirms trial {chosen[number].trial}"), None)

    return decide


def _whole(setup: Setup, one: Finalist) -> Point:
    """The finalist at the larger run, in whole steps of its batch."""
    large = one.large
    return setup.space.project(large.tokens, large.epochs, large.share, large.learning_rate)


def confirmed(setup: Setup, chosen: Sequence[Finalist], driver: Driver) -> list[Confirmed]:
    """What the larger runs gave."""
    objective = setup.config.objective

    def value(result: Result | None, name: str) -> float | None:
        good = result is not None and result.state == "done" and result.reports
        return result.reports[-1].metrics.get(name) if result is not None and good else None

    found = [driver.results.get(number) for number in range(len(chosen))]
    return [
        Confirmed(one, value(result, objective.domain_metric), value(result, objective.general_metric))
        for one, result in zip(chosen, found, strict=True)
    ]


def write_confirmed(setup: Setup, results: Sequence[Confirmed], base: Base, path: Path) -> Confirmed | None:
    """Write the recipe of the best confirmed finalist; None when none was run to its end."""
    objective = setup.config.objective
    own = setup.blend.metrics(base.measured, objective)
    scalar = tolerance(objective, own[objective.general_metric])
    ran = [(one, one.domain, one.general) for one in results if one.domain is not None and one.general is not None]
    if not ran:
        return None
    best, domain, general = min(ran, key=lambda row: row[1] + scalar.penalty * max(0.0, row[2] - scalar.limit))
    plain = setup.recipe.model_dump(mode="json", exclude_none=True, exclude_unset=True)
    sections = {name: value for name, value in plain.items() if name not in ("tuning", "runs")}
    point = _whole(setup, best.finalist)
    mixture = mixture_of(point, setup.blend, setup.recipe.mixture).model_dump(mode="json")
    # The last digit must not cost a step of the run.
    sections["mixture"] = {
        **sections.get("mixture", {}),
        **{k: mixture[k] for k in ("subset_tokens", "epochs", "shares")},
    }
    if point.learning_rate is not None:
        rate = float(f"{point.learning_rate:.6g}")
        sections["training"] = {**sections.get("training", {}), "learning_rate": rate}
    head = [
        f"# The best of {len(ran)} finalists of the search {setup.recipe.name!r}, each trained once at {point.tokens:,.0f} "
        "tokens with the recipe's own settings.",
        f"# Trial {best.finalist.trial}: "
        f"{objective.domain_metric} {domain:.4f} (base {own[objective.domain_metric]:.4f}), "
        f"{objective.general_metric} {general:.4f} (base {own[objective.general_metric]:.4f}, allowed {scalar.limit:.4f}).",
        "# One run each: a difference between finalists may be noise.",
    ]
    text = "\n".join(head) + "\n" + yaml.safe_dump(sections, sort_keys=False, allow_unicode=True)
    write_atomic(path, text)
    return best
