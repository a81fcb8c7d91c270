"""The command of a job: what stands behind ``steady submit --``, checked here before anything leaves this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.recipe import Recipe, load_recipe
from ground.errors import UserError
from tracking.redact import redact

if TYPE_CHECKING:
    import typer

RUNNABLE = ("curate", "plan", "train", "tune", "report", "sync", "doctor")
"""Commands that make sense as a job: they take a recipe, and write nothing beside its folders."""
_WRITES_NOTHING = ("plan", "doctor")


@dataclass(frozen=True)
class JobCommand:
    """A command of ``steady`` with its recipe, as the job will run it."""

    name: str
    """Such as ``train``."""
    arguments: tuple[str, ...]
    """All of it, the recipe's path relative to the working directory."""
    recipe: Recipe
    """With the overrides of the command line."""
    recipe_path: str
    """Relative to the working directory."""

    @property
    def work(self) -> Path | None:
        """Folder that every node must share; None where nothing is written."""
        return None if self.name in _WRITES_NOTHING else self.recipe.work_folder


def parse(app: typer.Typer, arguments: Sequence[str], folder: Path) -> JobCommand:
    """Read the command with the parser that the job will use, so that a slip is found here.

    Args:
        app: the commands of ``steady``.
        folder: the working directory that will be uploaded.

    Raises:
        UserError: it is no command for a job, its recipe is wrong or not below ``folder``, it would write where other
            nodes do not see it, or it holds a secret.
        click.ClickException: an option is unknown or wrong.
    """
    known = [name for name in RUNNABLE if name in _commands(app)]
    if not arguments or arguments[0] not in known:
        found = f"{arguments[0]!r} does not run as a job" if arguments else "no command follows"
        raise UserError("submit", found, f"write `steady submit -- train RECIPE` (or {', '.join(known)})")
    _refuse_secrets(arguments)
    name = arguments[0]
    given = _commands(app)[name].make_context(name, list(arguments[1:])).params
    if not given["recipe"]:
        raise UserError("submit", f"`{name}` has no recipe", f"write `steady submit -- {name} RECIPE`")
    recipe = load_recipe(given["recipe"], given["overrides"] or ())
    path = _below(folder, given["recipe"])
    changed = [path if argument == given["recipe"] else argument for argument in arguments]
    command = JobCommand(name, tuple(changed), recipe, path)
    _refuse_credentials(recipe)
    _check_folders(command)
    return command


def _commands(app: typer.Typer) -> dict[str, Any]:
    import typer.main

    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]  # a group, as it has several


def _below(folder: Path, recipe: str) -> str:
    path = Path(recipe).resolve()
    if not path.is_relative_to(folder.resolve()):
        mend = "name the folder that holds it with --working-dir"
        raise UserError("RECIPE", f"{recipe} is not below the working directory {folder}", mend)
    return os.fspath(path.relative_to(folder.resolve()))


def _refuse_secrets(arguments: Sequence[str]) -> None:
    """The command line of a job is shown to everyone who may see the cluster's dashboard."""
    for argument in arguments:
        if redact(argument) != argument:
            field = redact(argument.partition("=")[0])
            mend = "set it in the environment of the nodes (MLFLOW_TRACKING_PASSWORD, HF_TOKEN, AWS_...)"
            raise UserError(field, "holds credentials, which the job's command line would show", mend)


def _refuse_credentials(recipe: Recipe) -> None:
    if recipe.tracking.uri and redact(recipe.tracking.uri) != recipe.tracking.uri:
        mend = "take it out, and set MLFLOW_TRACKING_USERNAME and _PASSWORD in the environment of the nodes"
        raise UserError("tracking.uri", "holds credentials, which would be uploaded with the recipe", mend)


def _check_folders(command: JobCommand) -> None:
    if command.work is None:
        return
    recipe = command.recipe
    folders = {"work": str(recipe.work_folder)}
    folders |= {"curation.store": recipe.curation.store or "", "curation.work": recipe.curation.work or ""}
    for field, folder in folders.items():
        if folder and "://" not in folder and not Path(folder).is_absolute():
            problem = f"{folder!r} is relative: it would lie in the job's own copy, which Ray deletes"
            raise UserError(
                field, problem, f"give a folder that all nodes share, as {field}=/shared/{Path(folder).name}"
            )
