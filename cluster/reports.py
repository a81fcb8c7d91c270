"""`steady report`: of the runs, of the search, of whichever a recipe has."""

from __future__ import annotations

from cluster.commands import report_recipe
from cluster.recipe import Recipe
from cluster.tune import report_search
from cluster.tune_setup import search_folder


def report_all(recipe: Recipe) -> None:
    """Write the report of the recipe's search, if it has begun one, and of its finished runs.

    Raises:
        UserError: there is neither.
    """
    searched = recipe.tuning is not None and search_folder(recipe).is_dir()
    if searched:
        report_search(recipe)
    if not searched or any((recipe.work_folder / "runs").glob("*/result.json")):
        report_recipe(recipe)
