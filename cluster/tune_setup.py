"""From a recipe to a search that can begin: budgets, space, template of the trials. Whatever cannot work is refused here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster.changes import differences
from cluster.recipe import Recipe
from cluster.workflow import Planned, choose_device, job_in, measured_speed, plan_runs
from ground.errors import UserError
from ground.files import canonical_json, write_atomic
from pipelines.plan import Plan
from pipelines.store import TokenStore
from training.config import TrainingConfig
from training.job import Job
from tuning.blend import Blend, blend_of, check_metric, mixture_of
from tuning.budget import Budgets, Rates, resolve
from tuning.config import TuningConfig
from tuning.space import Limits, Space

SEARCH = "search"
"""A search's folder in the work folder."""
_SETTINGS = "search.json"
_CHECKPOINTS_PER_RUN = 4
"""Of a trial, where the recipe does not say: a trial loses little when its process dies, and the rungs have theirs anyway."""


@dataclass(frozen=True)
class Setup:
    """A search that can begin."""

    recipe: Recipe
    config: TuningConfig
    store: TokenStore
    space: Space
    budgets: Budgets
    blend: Blend
    template: Job
    """Of the trials; its folder is the search's."""
    planned: Planned
    """A run of the recipe at the middle of the space, for its cost."""

    @property
    def folder(self) -> Path:
        """The search's folder."""
        return search_folder(self.recipe)

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
    store = TokenStore.open(recipe.store_folder, verify=True)
    for field in ("domain_metric", "general_metric"):
        name = getattr(config.objective, field)
        check_metric(name, f"tuning.objective.{field}", store.sizes, recipe.evaluation.sources)
    blend = blend_of(store.sizes, recipe.mixture.shares)
    device = choose_device(recipe.training, gpus)
    settings = recipe.training.model_copy(update={"accelerator": device})
    alone = recipe.model_copy(update={"runs": {}, "training": settings})
    speed = measured_speed(recipe.work_folder, alone)
    first = _planned(alone, device, gpu_memory)
    rates = Rates(first.estimate.flops / first.estimate.tokens, speed / settings.workers if speed else None)
    step = settings.global_batch_tokens
    budgets = resolve(config.budget, config.run_budget, rates, step, config.rungs[0])
    space = space_of(config, recipe, store, blend, budgets.run)
    for point in space.grid(2):
        Plan(
            store.sizes,
            mixture_of(point, blend, recipe.mixture),
            sequence_length=settings.sequence_length,
            batch_sequences=settings.batch_sequences,
            seed=recipe.seed,
        )
    middle = space.point(np.full(space.dims, 0.5))
    planned = _planned(
        alone.model_copy(update={"mixture": mixture_of(middle, blend, recipe.mixture)}), device, gpu_memory
    )
    template = job_in(search_folder(recipe), planned, store)
    template = template.model_copy(
        update={
            "training": _trial_training(planned.recipe.training, budgets.run),
            "evaluation": template.evaluation.model_copy(update={"layer_updates": False, "tasks": None}),
        }
    )
    return Setup(recipe, config, store, space, budgets, blend, template, planned)


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


def claim(setup: Setup) -> None:
    """Make the search's folder this search's own.

    Raises:
        UserError: it holds another search.
    """
    path = setup.folder / _SETTINGS
    identity = {
        "tuning": setup.config.model_dump(mode="json"),
        "budgets": {"whole": setup.budgets.whole, "run": setup.budgets.run},
        "template": {key: value for key, value in setup.template.identity().items() if key != "name"},
    }
    if not path.is_file():
        setup.folder.mkdir(parents=True, exist_ok=True)
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


def _planned(recipe: Recipe, device: str, gpu_memory: float | None) -> Planned:
    return plan_runs(recipe, device=device, peak_flops=recipe.training.peak_flops, gpu_memory=gpu_memory)[0]


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
