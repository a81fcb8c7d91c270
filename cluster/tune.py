"""`steady tune`: search, watch, hand over ``best.yaml``; and `--status`, which only looks."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.commands import gpu_memory_of, local_gpus, log_datasets, say_unreachable
from cluster.recipe import Recipe
from cluster.sync import say_what_is_kept
from cluster.tune_confirm import CONFIRMED, choose, confirmed, confirming, write_confirmed
from cluster.tune_log import TrialLogs
from cluster.tune_setup import SETTINGS, Setup, claim, earlier_of, search_folder, set_up, tuning_of
from cluster.tune_view import show_best, show_confirmed, show_finalists, show_result, show_setup, show_status
from cluster.workflow import only_writer, open_tracker
from ground.errors import UserError
from ground.files import write_atomic
from tracking.runs import RunLog, Tracker
from tracking.search_report import write_search_report
from tuning.base import Base, load_base
from tuning.best_recipe import best_recipe
from tuning.blend import DOMAIN, GENERAL
from tuning.driver import Decider, Driver, Foreteller
from tuning.ledger import Ledger
from tuning.objective import check_tolerance
from tuning.outcome import Confirmed, Setting, build_search_data
from tuning.plain import PlainPlanner, planner_of
from tuning.predictions import foretell
from tuning.propose import Planner
from tuning.trial import forget_checkpoints, read_trial_records, trial_name

if TYPE_CHECKING:
    from tuning.search import Search

BASE, CLOCK, BEST, ENDED = "base.json", "seconds.json", "best.yaml", "ended.json"


def tune_recipe(recipe: Recipe, *, resume: bool = False) -> Path:
    """Search for the best recipe that the budget can buy; goes on where an earlier call stopped.

    Args:
        resume: there must be something to go on with.

    Returns:
        The recipe that it found.

    Raises:
        UserError: whatever makes the search impossible, as early as it can be known.
    """
    from cluster.session import session

    tuning_of(recipe)
    if resume and not search_folder(recipe).is_dir():
        raise UserError("--resume", f"there is no search in {search_folder(recipe)}", "leave --resume out to begin one")
    gpus, _ = local_gpus()
    remote = recipe.cluster.address or os.environ.get("RAY_ADDRESS")
    setup = None if remote else set_up(recipe, gpus=gpus, gpu_memory=gpu_memory_of(recipe.training.gpu))
    if setup is not None:
        _check_known_base(setup)
        earlier_of(setup)
    with session(recipe.cluster.address):
        if setup is None:
            from training.launch import gpus_available

            setup = set_up(recipe, gpus=gpus_available(), gpu_memory=gpu_memory_of(recipe.training.gpu))
        with only_writer(setup.folder, "search"):
            return _search(setup)


def plan_search(recipe: Recipe) -> None:
    """Check a search and show what it would cost; starts nothing.

    Raises:
        UserError: as ``tune_recipe``, as far as it is known without training.
    """
    gpus = max(local_gpus()[0], recipe.training.workers if recipe.training.accelerator == "gpu" else 0)
    setup = set_up(recipe, gpus=gpus, gpu_memory=gpu_memory_of(recipe.training.gpu))
    _check_known_base(setup)
    show_setup(setup, "no run is started", earlier_of(setup), begun=False)


def report_search(recipe: Recipe) -> Path:
    """Write the report of a search again, whether or not it is over, and log it to MLflow.

    Raises:
        UserError: there is no search, or it has no result yet.
    """
    settings = search_folder(recipe) / SETTINGS
    if not settings.is_file():
        raise UserError("tuning", f"there is no search in {settings.parent}", "run `steady tune` with this recipe")
    # Whatever this machine has: the search ran where it ran.
    on_gpus = json.loads(settings.read_text())["template"]["training"]["accelerator"] == "gpu"
    gpus = recipe.training.workers if on_gpus else 0
    setup = set_up(recipe, gpus=gpus, gpu_memory=gpu_memory_of(recipe.training.gpu))
    base = load_base(setup.folder / BASE, setup.template)
    if base is None or not (setup.folder / "trials.jsonl").is_file():
        raise UserError("tuning", f"there is no search in {setup.folder}", "run `steady tune` with this recipe")
    driver = _driver(setup)
    tracker = open_tracker(recipe, or_later=True)
    say_unreachable(tracker)
    with _parent(tracker, setup) as parent:
        return _hand_over(
            setup, driver, _planner(setup, base), base, _reason(setup), parent, _known(setup, driver, base)
        )


def status_of(recipe: Recipe) -> None:
    """Show what a search has spent, reserved and left; changes nothing.

    Raises:
        UserError: there is no search.
    """
    folder = search_folder(recipe)
    if not (folder / "ledger.jsonl").is_file():
        raise UserError("tuning", f"there is no search in {folder}", "run `steady tune` with this recipe")
    settings = json.loads((folder / SETTINGS).read_text())
    ledger = Ledger(folder / "ledger.jsonl", settings["budgets"]["whole"])
    show_status(folder, ledger.state(), _clock(folder))


def _search(setup: Setup) -> Path:
    from tuning.search import check_placement

    workers = max(one.template.training.workers for one in _parts(setup))
    check_placement(workers, setup.config.max_concurrent, use_gpu=setup.use_gpu)
    claim(setup)
    base = _base(setup)
    _check_tolerance(setup, base)
    driver, planner = _driver(setup), _planner(setup, base)
    recipe = setup.recipe
    tracker = open_tracker(recipe, or_later=True)
    show_setup(setup, tracker.shown_uri, earlier_of(setup), begun=bool(driver.jobs))
    say_unreachable(tracker)
    with _parent(tracker, setup) as parent:
        tell = partial(foretell, space=setup.space, config=setup.config.objective)
        reason = _run(setup, driver, planner.decide, tracker, parent, lambda survey, job: tell(survey=survey, job=job))
        write_atomic(setup.folder / ENDED, json.dumps({"reason": reason}))
        for trial in driver.history().paused:
            forget_checkpoints(setup.folder / trial_name(trial.number))
        results = _confirm(setup, driver, base, tracker, parent)
        path = _hand_over(setup, driver, planner, base, reason, parent, results)
    say_what_is_kept(recipe)
    return path


def _parts(setup: Setup) -> list[Setup]:
    return [setup, *([setup.confirmation] if setup.confirmation else [])]


def _base(setup: Setup) -> Base:
    from tuning.search import base_of

    return base_of(_searched(setup), setup.folder / BASE)


def _searched(setup: Setup) -> Search:
    from tuning.search import Search

    config = setup.config
    return Search(setup.template, setup.blend, config.objective, config.max_concurrent, setup.use_gpu)


def _run(
    setup: Setup, driver: Driver, decide: Decider, tracker: Tracker, parent: RunLog, tell: Foreteller | None = None
) -> str:
    """Run a search to its end, logging and printing what comes; why it ended."""
    from tuning.search import run_search

    logs, clock = TrialLogs(tracker, parent, setup, driver), _Clock(setup.folder)

    def watch() -> None:
        clock.tick()
        for result in logs.update():
            show_result(setup, result, driver.ledger.state())

    try:
        return run_search(_searched(setup), driver, decide, tell, watch)
    finally:
        logs.close()
        clock.stop()


def _confirm(setup: Setup, driver: Driver, base: Base, tracker: Tracker, parent: RunLog) -> list[Confirmed]:
    """Train the finalists at the larger run; none where the recipe does not ask for it."""
    larger = setup.confirmation
    if larger is None:
        return []
    chosen = choose(setup, driver.history(), _base_metrics(setup, base)[1])
    show_finalists(larger, chosen)
    own = _base(larger)
    again = _driver(larger)
    name = f"{setup.recipe.name} confirmation"
    with tracker.run(name, larger.folder, parent=parent, tags={"steady.kind": "confirmation"}) as log:
        _run(larger, again, confirming(larger, chosen), tracker, log)
        results = confirmed(larger, chosen, again)
        if write_confirmed(larger, results, own, setup.folder / CONFIRMED) is not None:
            log.artifact(setup.folder / CONFIRMED)
    return results


def _hand_over(
    setup: Setup,
    driver: Driver,
    planner: Planner | PlainPlanner,
    base: Base,
    reason: str | None,
    parent: RunLog,
    results: Sequence[Confirmed] = (),
) -> Path:
    """Report and ``best.yaml``, on disk and in MLflow; returns the recipe's path."""
    recipe = setup.recipe
    plain = recipe.model_dump(mode="json", exclude_none=True, exclude_unset=True)
    setting = Setting(
        title=recipe.name,
        created=time.strftime("%Y-%m-%d %H:%M"),
        space=setup.space,
        config=setup.config,
        base=_base_metrics(setup, base),
        domain=setup.blend.domain,
        general=setup.blend.general,
        recipe=plain,
    )
    curves = {trial.number: _curves(setup, trial.number) for trial in driver.history().trials}
    data = build_search_data(
        setting, driver, planner, reason=reason, seconds=_clock(setup.folder), curves=curves, confirmed=results
    )
    folder = recipe.work_folder / "search-report"
    for file in write_search_report(data, folder):
        parent.artifact(file, "plots" if file.suffix == ".png" else "report")
    best = setup.folder / BEST
    if data.best is not None:
        write_atomic(best, best_recipe(plain, data))
        parent.artifact(best)
    show_best(data, best, folder / "report.html")
    if results:
        show_confirmed(data, setup.folder / CONFIRMED)
    return best


def _known(setup: Setup, driver: Driver, base: Base) -> list[Confirmed]:
    """What an earlier call confirmed."""
    larger = setup.confirmation
    if larger is None or not (larger.folder / "trials.jsonl").is_file():
        return []
    return confirmed(larger, choose(setup, driver.history(), _base_metrics(setup, base)[1]), _driver(larger))


def _curves(setup: Setup, trial: int) -> Mapping[str, Sequence[tuple[float, float]]]:
    """Both metrics of a trial over its tokens, the base's at 0."""
    out: dict[str, dict[float, float]] = {}
    for record in read_trial_records(setup.folder / trial_name(trial)):
        for name, value in setup.blend.metrics(record["metrics"], setup.config.objective).items():
            out.setdefault(name, {})[float(record["tokens"])] = value
    return {name: sorted(points.items()) for name, points in out.items()}


def _parent(tracker: Tracker, setup: Setup) -> RunLog:
    recipe, config = setup.recipe, setup.config
    parent = tracker.run(
        f"{recipe.name} search",
        setup.folder,
        tags={"steady.kind": "search", "steady.store": setup.store.digest},
        params={
            "budget_tokens": round(setup.budgets.whole),
            "run_budget_tokens": setup.budgets.run,
            "tuning": config.model_dump(mode="json", exclude={"budget", "run_budget"}),
            "training": setup.template.training.model_dump(mode="json"),
            "model": setup.template.model.model_dump(mode="json", exclude_none=True),
        },
        description=recipe.description,
    )
    log_datasets(parent, setup.store)
    return parent


def _driver(setup: Setup) -> Driver:
    step = setup.space.limits.step_tokens
    return Driver(setup.folder, setup.budgets.whole, step, setup.config.max_concurrent, earlier_of(setup).trials)


def _planner(setup: Setup, base: Base) -> Planner | PlainPlanner:
    return planner_of(setup.space, setup.config, _base_metrics(setup, base)[1], earlier_of(setup).points)


def _base_metrics(setup: Setup, base: Base) -> tuple[float, float]:
    objective = setup.config.objective
    found = setup.blend.metrics(base.measured, objective)
    if not found:
        names = ", ".join(sorted(base.measured))
        raise UserError(
            "tuning.objective", f"{objective.domain_metric} and {objective.general_metric} have no value for the base",
            f"use {DOMAIN} and {GENERAL}, or some of {names}",
        )  # fmt: skip
    return found[objective.domain_metric], found[objective.general_metric]


def _check_known_base(setup: Setup) -> None:
    """What an earlier call measured is known without starting Ray."""
    base = load_base(setup.folder / BASE, setup.template)
    if base is not None:
        _check_tolerance(setup, base)


def _check_tolerance(setup: Setup, base: Base) -> None:
    if setup.config.objective.general_metric == GENERAL:
        check_tolerance(setup.config.objective, base.general_error(setup.blend.general))


def _reason(setup: Setup) -> str | None:
    path = setup.folder / ENDED
    return str(json.loads(path.read_text())["reason"]) if path.is_file() else None


def _clock(folder: Path) -> float:
    path = folder / CLOCK
    return float(json.loads(path.read_text())) if path.is_file() else 0.0


class _Clock:
    """Seconds of a search over all its calls, kept on disk every ten."""

    def __init__(self, folder: Path) -> None:
        self._path, self._before = folder / CLOCK, _clock(folder)
        self._start = self._kept = time.monotonic()

    def tick(self) -> None:
        if time.monotonic() - self._kept > 10:
            self.stop()

    def stop(self) -> None:
        self._kept = time.monotonic()
        write_atomic(self._path, json.dumps(self._before + self._kept - self._start))
