"""From a recipe to a search that can begin: budgets, space, template of the trials. Whatever cannot work is refused here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cluster.changes import differences
from cluster.recipe import Recipe, trial_recipe
from cluster.stores import store_of
from cluster.workflow import Planned, choose_device, job_in, measured_speed, plan_runs
from ground.errors import UserError
from ground.files import canonical_json, write_atomic
from pipelines.plan import Plan
from pipelines.store import TokenStore
from training.config import TrainingConfig
from training.job import Job
from tuning.blend import Blend, blend_of, check_metric, mixture_of
from tuning.budget import Budgets, Rates, resolve, to_tokens, whole_steps
from tuning.config import ConfirmConfig, TuningConfig
from tuning.earlier import Earlier, load_earlier, read_earlier, save_earlier
from tuning.space import Limits, Space

SEARCH = "search"
"""A search's folder in the work folder."""
SETTINGS, EARLIER = "search.json", "earlier.json"
"""In the search's folder: what it searches, so that another search does not go on with it."""
_CHECKPOINTS_PER_RUN = 4
"""Of a trial, where the recipe does not say: a trial loses little when its process dies, and the rungs have theirs anyway."""


@dataclass(frozen=True)
class Setup:
    """A search that can begin."""

    recipe: Recipe
    """As its user wrote it; trials run ``template``."""
    config: TuningConfig
    store: TokenStore
    space: Space
    budgets: Budgets
    blend: Blend
    template: Job
    """Of the trials; its folder is the search's."""
    planned: Planned
    """A run of the recipe at the middle of the space, for its cost."""
    confirmation: Setup | None = None
    """Of the finalists' larger runs, with a budget of their own."""
    enlargement: float = 1.0
    """Tokens of a run of this search over those of the search that it confirms."""

    @property
    def folder(self) -> Path:
        """The search's folder."""
        return Path(self.template.folder)

    @property
    def use_gpu(self) -> bool:
        """One GPU for each worker."""
        return self.template.training.accelerator == "gpu"


def search_folder(recipe: Recipe) -> Path:
    """Where a recipe's search keeps everything."""
    return recipe.work_folder / SEARCH


def tuning_of(recipe: Recipe) -> TuningConfig:
    """The recipe's search.

    Raises:
        UserError: it has none.
    """
    if recipe.tuning is None:
        raise UserError(
            "tuning", "is missing", "add it to the recipe with budget and run_budget, as in recipes/search.yaml"
        )
    return recipe.tuning


def set_up(recipe: Recipe, *, gpus: int, gpu_memory: float | None) -> Setup:
    """Check everything that can be known before the first trial.

    Args:
        gpus: of the machine or cluster that will train.

    Raises:
        UserError: the search cannot work, with the arithmetic.
    """
    config = tuning_of(recipe)
    store = store_of(recipe, verify=True)
    trials = trial_recipe(recipe)
    for field in ("domain_metric", "general_metric"):
        name = getattr(config.objective, field)
        check_metric(name, f"tuning.objective.{field}", store.sizes, trials.evaluation.sources)
    blend = blend_of(store.sizes, recipe.mixture.shares)
    place = _Place(gpus, gpu_memory, store, blend)
    first, rates = _cost(place, trials)
    step, held, confirmation = first.recipe.training.global_batch_tokens, 0.0, None
    if config.confirm is not None:
        run = whole_steps(to_tokens(config.run_budget, rates, "tuning.run_budget"), step)
        confirmation, held = _confirmation(place, recipe, config.confirm, rates, max(run, step))
    budgets = resolve(config.budget, config.run_budget, rates, step, config.rungs[0], held)
    made = _setup(place, recipe, trials, budgets, search_folder(recipe))
    return replace(made, confirmation=confirmation)


@dataclass(frozen=True)
class _Place:
    """Where trials will train, and on what."""

    gpus: int
    gpu_memory: float | None
    store: TokenStore
    blend: Blend


def _cost(place: _Place, recipe: Recipe) -> tuple[Planned, Rates]:
    """A run of the recipe as it is, and what its tokens cost."""
    device = choose_device(recipe.training, place.gpus)
    settings = recipe.training.model_copy(update={"accelerator": device})
    alone = recipe.model_copy(update={"runs": {}, "training": settings})
    planned = plan_runs(alone, device=device, peak_flops=settings.peak_flops, gpu_memory=place.gpu_memory)[0]
    speed = measured_speed(recipe.work_folder, alone)
    per_token = planned.estimate.flops / planned.estimate.tokens
    return planned, Rates(per_token, speed / settings.workers if speed else None)


def _setup(place: _Place, own: Recipe, trials: Recipe, budgets: Budgets, folder: Path) -> Setup:
    """A search in a folder.

    Args:
        own: the recipe as its user wrote it.
        trials: as its trials run it.
    """
    config, store, blend = tuning_of(own), place.store, place.blend
    space = space_of(config, trials, store, blend, budgets.run)
    for point in space.grid(2):
        Plan(
            store.sizes,
            mixture_of(point, blend, trials.mixture),
            sequence_length=trials.training.sequence_length,
            batch_sequences=trials.training.batch_sequences,
            seed=own.seed,
        )
    middle = mixture_of(space.point(np.full(space.dims, 0.5)), blend, trials.mixture)
    planned, _ = _cost(place, trials.model_copy(update={"mixture": middle}))
    template = job_in(folder, planned, store)
    template = template.model_copy(
        update={
            "training": _trial_training(planned.recipe.training, budgets.run),
            "evaluation": template.evaluation.model_copy(update={"layer_updates": False, "tasks": None}),
        }
    )
    return Setup(own, config, store, space, budgets, blend, template, planned)


def _confirmation(
    place: _Place, recipe: Recipe, config: ConfirmConfig, trial: Rates, trial_run: int
) -> tuple[Setup, float]:
    """The finalists' runs, and what they cost in tokens of the trials.

    Args:
        trial: what a token of a trial costs.
        trial_run: tokens of a trial's run.

    Raises:
        UserError: the largest subset of a trial would pass the domain's tokens there.
    """
    _, rates = _cost(place, recipe)
    step = recipe.training.global_batch_tokens
    run = whole_steps(to_tokens(config.run_budget, rates, "tuning.confirm.run_budget"), step)
    if run < step:
        raise UserError("tuning.confirm.run_budget", f"buys less than one step of {step:,} tokens", "raise it")
    domain, fewest = _usable(place.store, place.blend.domain), tuning_of(recipe).space.epochs.low
    if run / fewest > domain:
        raise UserError(
            "tuning.confirm.run_budget",
            f"of {run:,} tokens at {fewest:g} epochs asks for a subset of {run / fewest:,.0f}, the domain has {domain:,}",
            "lower it, raise tuning.space.epochs.low or add text",
        )
    assert trial.flops_per_token is not None and rates.flops_per_token is not None
    budgets = Budgets(float(config.count * run), run)
    made = _setup(place, recipe, recipe, budgets, search_folder(recipe) / "confirm")
    held = budgets.whole * rates.flops_per_token / trial.flops_per_token
    alone = made.config.model_copy(update={"earlier": ()})
    return replace(made, config=alone, enlargement=run / trial_run), held


def space_of(config: TuningConfig, recipe: Recipe, store: TokenStore, blend: Blend, run_tokens: int) -> Space:
    """The surface that a recipe searches over its store.

    Raises:
        UserError: no point is feasible.
    """
    limits = Limits(
        run_tokens=run_tokens,
        step_tokens=recipe.training.global_batch_tokens,
        sequence_length=recipe.training.sequence_length,
        domain_tokens=_usable(store, blend.domain),
        general_tokens=_usable(store, blend.general),
        max_repetition=recipe.mixture.max_repetition,
        redraw=recipe.mixture.redraw,
        min_steps=config.space.min_steps,
    )
    wanted, rate = config.space, config.space.learning_rate
    return Space(
        limits,
        epochs=(wanted.epochs.low, wanted.epochs.high),
        share=(wanted.share.low, min(1.0, wanted.share.high)),
        learning_rate=(rate.low, rate.high) if rate else None,
        cheapest=wanted.cheapest,
    )


def settings_of(setup: Setup) -> dict[str, Any]:
    """What a search is, as plain values."""
    return {
        "tuning": setup.config.model_dump(mode="json"),
        "budgets": {"whole": setup.budgets.whole, "run": setup.budgets.run},
        "proportions": {"domain": dict(setup.blend.domain), "general": dict(setup.blend.general)},
        "template": {key: value for key, value in setup.template.identity().items() if key != "name"},
    }


def earlier_of(setup: Setup) -> Earlier:
    """What other searches tell this one: what they told it when it began, or what they would.

    Raises:
        UserError: there is no such search, or it read another store.
    """
    if (setup.folder / SETTINGS).is_file():
        return load_earlier(setup.folder / EARLIER)
    folders = [Path(work) / SEARCH for work in setup.config.earlier]
    return read_earlier(folders, json.loads(canonical_json(settings_of(setup))), setup.space)


def claim(setup: Setup) -> None:
    """Make the search's folder this search's own.

    Raises:
        UserError: it holds another search.
    """
    path, identity = setup.folder / SETTINGS, settings_of(setup)
    if not path.is_file():
        setup.folder.mkdir(parents=True, exist_ok=True)
        save_earlier(setup.folder / EARLIER, earlier_of(setup))
        write_atomic(path, canonical_json(identity))
        return
    changed = [str(found) for found in differences(json.loads(path.read_text()), json.loads(canonical_json(identity)))]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise UserError(
            f"{setup.folder}",
            f"holds a search with other settings ({'; '.join(changed[:3])}{more})",
            "undo the change, or give the recipe another name or work folder",
        )


def _trial_training(training: TrainingConfig, run_tokens: int) -> TrainingConfig:
    """A trial keeps one checkpoint, here; its search decides what becomes of it."""
    every = training.checkpoint_tokens or max(training.global_batch_tokens, run_tokens // _CHECKPOINTS_PER_RUN)
    return training.model_copy(
        update={
            "checkpoint_tokens": every,
            "keep_checkpoints": 1,
            "keep_best": None,
            "keep_every_tokens": None,
            "checkpoint_mirror": None,
        }
    )


def _usable(store: TokenStore, parts: Mapping[str, float]) -> int:
    """Tokens of a role when its sources are used in these proportions: the scarcest one decides."""
    return int(min(store.sizes[name].tokens / part for name, part in parts.items()))
