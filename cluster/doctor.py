"""`steady doctor`: what this machine has, and whether a recipe could run on it, one line each with a mend."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from cluster import doctor_machine as machine
from cluster import doctor_recipe, doctor_services
from cluster.console import console
from cluster.doctor_lines import Finding, Level, attempt
from cluster.recipe import Recipe, load_recipe

__all__ = ["Finding", "Level", "examine", "findings_of", "show"]

_SIGNS = {"ok": "[green]ok[/green]", "note": "[yellow]note[/yellow]", "broken": "[red]broken[/red]"}


def examine(recipe_path: str | None, overrides: Sequence[str]) -> int:
    """Show all findings; 1 when something is broken, else 0."""
    findings = list(findings_of(recipe_path, overrides))
    show(findings)
    return int(any(finding.level == "broken" for finding in findings))


def show(findings: Sequence[Finding]) -> None:
    """One line each, with the mend below it where there is something to mend."""
    table = Table(show_header=False, box=None)
    for finding in findings:
        mend = f"\n-> {finding.mend}" if finding.mend and finding.level != "ok" else ""
        table.add_row(_SIGNS[finding.level], finding.what, escape(finding.found + mend))
    console.print(table)


def findings_of(recipe_path: str | None, overrides: Sequence[str]) -> Iterator[Finding]:
    """Every line of the page: the machine, the services, and the recipe if one is given."""
    recipe: Recipe | None = None
    last: list[Finding] = []
    if recipe_path is not None:

        def load() -> str:
            nonlocal recipe
            recipe = load_recipe(recipe_path, overrides)
            return recipe.name

        last = [attempt("recipe", load)]
    yield from (machine.python(), machine.packages(), machine.demo_packages(), machine.accelerator())
    yield from (machine.deepspeed_ops(), machine.lmplz(), machine.shared_memory())
    yield machine.disk(Path.cwd() if recipe is None else recipe.work_folder)
    address = (recipe.cluster.address if recipe is not None else None) or os.environ.get("RAY_ADDRESS")
    totals, ray_lines = doctor_services.ray(address)
    yield from ray_lines
    if recipe is None:
        yield Finding("mlflow", "ok", "without a recipe: a SQLite file in the work folder, no server needed")
        yield from last
        return
    uri = recipe.tracking.resolved_uri(recipe.work_folder)
    yield from doctor_services.mlflow(uri, recipe.tracking.experiment or recipe.name)
    yield from doctor_services.object_stores(doctor_recipe.urls(recipe))
    yield from last
    yield from doctor_recipe.inputs(recipe)
    yield from doctor_recipe.plans(recipe, str(recipe_path))
    if address is None or totals is not None:
        yield doctor_recipe.devices(recipe, totals)
    yield from doctor_recipe.tools(recipe)
