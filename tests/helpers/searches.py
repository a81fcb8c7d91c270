"""Whole searches on analytic landscapes, as a driver leaves them behind, for the tests of what is told of a search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tracking.search_data import SearchData
from tuning.config import ObjectiveConfig
from tuning.driver import Driver, Wait, advance
from tuning.history import Job, Report, Result
from tuning.landscapes import BASE, LANDSCAPES, landscape_space
from tuning.outcome import Setting, build_search_data
from tuning.plain import PlainPlanner, planner_of
from tuning.predictions import foretell
from tuning.propose import Planner, Stop
from tuning.simulate import observe, settings
from tuning.space import Space

RECIPE: dict[str, Any] = {
    "name": "medical",
    "sources": {
        "medical": {"role": "domain", "paths": ["s3://me:hunter2@bucket/medical.jsonl"]},
        "wikipedia": {"role": "general", "paths": ["wikipedia.jsonl"]},
        "code": {"role": "general", "paths": ["code.jsonl"]},
    },
    "model": {"base": "models/tiny-base"},
    "mixture": {"redraw": "epoch", "max_repetition": 16.0},
    "training": {"sequence_length": 2000, "global_batch_tokens": 1_000_000, "learning_rate": 3e-4},
    "tuning": {"budget": {"value": 1}},
    "runs": {"one": {}},
}


@dataclass(frozen=True)
class Played:
    """A search and how it ended."""

    setting: Setting
    driver: Driver
    planner: Planner | PlainPlanner
    reason: str | None

    def data(self, **more: Any) -> SearchData:
        """What its report shows."""
        return build_search_data(
            self.setting, self.driver, self.planner, **{"reason": self.reason, "seconds": 7200.0} | more
        )


def play(
    folder: Path | None = None,
    *,
    runs: float = 9,
    jobs: int | None = None,
    seed: int = 5,
    space: Space | None = None,
    happens: Callable[[Job, Result], Result | None] = lambda job, result: result,
    landscape: int = 0,
    **changes: Any,
) -> Played:
    """A search to its end, two jobs at once.

    Args:
        folder: of the driver's files; None keeps them in memory.
        runs: the budget, in whole runs.
        jobs: results after which the search is left alone, with jobs in flight.
        happens: what becomes of a job; None leaves it in flight for ever.
        changes: of the settings.
    """
    space = space or landscape_space()
    budget = runs * space.limits.run_tokens
    config = settings(budget, space, seed, concurrent=2).model_copy(update={"initial": 6} | changes)
    setting = Setting(
        title="Medical text, where to?",
        created="2 March 2026, 14:05",
        space=space,
        config=config,
        base=BASE,
        domain={"medical": 1},
        general={"wikipedia": 3, "code": 1},
        recipe=RECIPE,
    )
    planner = planner_of(space, config, BASE[1])
    driver = Driver(folder, budget, space.limits.step_tokens, 2)
    tell = partial(foretell, space=space, config=config.objective)
    while True:
        made = advance(driver, planner.decide, lambda survey, job: tell(survey, job=job))
        if isinstance(made, Wait):
            job = driver.unfinished()[0]
            result = happens(job, observe(space, LANDSCAPES[landscape], job, seed))
            if result is None or (jobs is not None and len(driver.results) >= jobs):
                return Played(setting, driver, planner, None)
            driver.end(result, 12.0)
        elif isinstance(made.action, Stop):
            return Played(setting, driver, planner, made.action.reason)


def diverged(result: Result) -> Result:
    """The same result with metrics that are not finite."""
    return replace(
        result, reports=(Report(result.job.end, {"domain_loss": float("nan"), "general_loss": float("inf")}),)
    )


def crashed(result: Result) -> Result:
    """A job that failed before it reported."""
    return replace(result, reports=(), state="failed")


PARETO = ObjectiveConfig(kind="pareto")
