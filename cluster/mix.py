"""``steady mix``: write a recipe's mixture, in training order, for other trainers."""

from __future__ import annotations

import time
from pathlib import Path

from cluster.console import console, count
from cluster.recipe import Recipe
from cluster.stores import store_of
from ground.errors import UserError
from pipelines.mix import MANIFEST, MixManifest, mix_settings, write_mixture
from pipelines.mix_formats import Format
from pipelines.plan import Plan

_SAY_SECONDS = 5


def mix_recipe(
    recipe: Recipe,
    to: Path,
    format: Format,
    *,
    run: str | None = None,
    from_step: int = 0,
    steps: int | None = None,
    text: bool = False,
) -> MixManifest:
    """Write the sequences of one run into the folder ``to``; the same call again goes on where it stopped.

    Args:
        run: which of the recipe's runs; may be absent when there is one.
        from_step, steps: the part of the run to write; absent: all of it.
        text: with the decoded text (JSONL only).

    Raises:
        UserError: there is no such run or no store, the steps are not in the run, or the folder holds something else.
    """
    from cluster.session import session  # loads Ray
    from pipelines.ray_executor import RayExecutor

    variant = choose_run(recipe, run)
    store = store_of(variant, verify=True)
    plan = Plan(
        store.sizes,
        variant.mixture,
        sequence_length=variant.training.sequence_length,
        batch_sequences=variant.training.batch_sequences,
        seed=variant.seed,
    )
    settings = mix_settings(store, plan, format=format, text=text, start_step=from_step, steps=steps)
    console.print(
        f"steps {settings.first_step} to {settings.first_step + settings.steps - 1} of {plan.steps}: "
        f"{count(settings.steps * plan.batch_sequences * plan.sequence_length)} tokens in {settings.parts} part(s)"
    )
    with session(recipe.cluster.address):
        manifest = write_mixture(
            store, settings, to, RayExecutor(gpu_nodes=recipe.cluster.curate_on_gpu_nodes), _Said()
        )
    console.print(f"{manifest.sequences:,} sequences in {to}, listed in {to / MANIFEST}")
    return manifest


def choose_run(recipe: Recipe, run: str | None) -> Recipe:
    """The named run of a recipe, or its only one.

    Raises:
        UserError: there is no such run, or there are several and none is named.
    """
    variants = recipe.variants()
    if run is None and len(variants) > 1:
        raise UserError("--run", "is absent and the recipe has several runs", f"use one of {', '.join(variants)}")
    if run is not None and run not in variants:
        raise UserError("--run", f"{run!r} is no run of this recipe", f"use one of {', '.join(variants)}")
    return variants[run] if run is not None else next(iter(variants.values()))


class _Said:
    """Says how far it is, at most every few seconds."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, there: int, parts: int) -> None:
        if there == parts or time.monotonic() - self._last > _SAY_SECONDS:
            self._last = time.monotonic()
            console.print(f"  [dim]mix:[/dim] part {there} of {parts}")
