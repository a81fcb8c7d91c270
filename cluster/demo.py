"""`steady demo`: the main job end to end, on text that PyPI packages carry, with the small base model of this repository."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from cluster.commands import report_recipe, train_recipe
from cluster.console import console, duration
from cluster.curation import curate_recipe
from cluster.recipe import load_recipe
from cluster.tune import tune_recipe
from ground.errors import UserError
from pipelines.packaged import write_packaged_corpora

_ROOT = Path(__file__).resolve().parent.parent
_RECIPE, _BASE = _ROOT / "recipes" / "demo.yaml", _ROOT / "models" / "tiny-base"
CORPORA = Path(".steady/packaged")


def run_demo(work: Path, *, fresh: bool) -> Path:
    """Write the corpora, curate, plan, train three runs, report and search, saying how long each will take.

    Returns:
        The HTML report.

    Raises:
        UserError: the packages of ``steady[demo]`` are missing, or this is no checkout of the repository.
    """
    if not _RECIPE.is_file() or not _BASE.is_dir():
        raise UserError(
            "steady demo", f"{_RECIPE.parent} or {_BASE} is missing", "run it from a checkout of the repository"
        )
    if fresh:
        shutil.rmtree(work, ignore_errors=True)
    started = time.perf_counter()
    recipe = load_recipe(_RECIPE, [f"work={work}", f"model.base={_BASE}"])
    _step(1, "corpora: medical and general text from installed packages (about 20 s the first time)")
    write_packaged_corpora(CORPORA)
    _step(2, "curate: filter, rank by quality, tokenise, write the token store (about 1 min)")
    curate_recipe(recipe)
    _step(3, "plan and train: three runs from the same base model at the same token budget (about 5 min)")
    train_recipe(recipe)
    _step(4, "report: HTML and plots, also logged to MLflow (about 10 s)")
    page = report_recipe(recipe, show=False)  # the table stands above already
    _step(5, "search: subset, epochs, domain share and learning rate for short runs, under one budget (about 3 min)")
    tune_recipe(recipe)
    console.print(
        f"done in {duration(time.perf_counter() - started)}. Browse the runs with: steady ui {_shown(_RECIPE)}"
    )
    return page


def _step(number: int, text: str) -> None:
    console.print(f"\n[bold]{number}/5[/bold] {text}")


def _shown(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
