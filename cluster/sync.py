"""`steady sync`: what an outage of MLflow kept on disk goes to MLflow now."""

from __future__ import annotations

from pathlib import Path

from cluster.console import console
from cluster.curation_log import log_curation
from cluster.recipe import Recipe
from cluster.stores import store_of
from cluster.workflow import only_writer, open_tracker
from ground.errors import UserError
from pipelines.store import MARKER
from tracking.identity import FILE_NAME
from tracking.redact import redact
from tracking.runs import Tracker, kept_records


def sync_recipe(recipe: Recipe) -> int:
    """Send everything that a recipe's curation and runs recorded and MLflow lacks; how many records that were.

    Raises:
        UserError: MLflow does not answer or takes them not, or nothing was recorded yet.
    """
    folders = _recorded(recipe.work_folder)
    stored = bool(recipe.store_url) or (recipe.store_folder / MARKER).is_file()
    if not folders and not stored:
        raise UserError("work", f"nothing was recorded in {recipe.work_folder} yet", "run `steady train` first")
    tracker = open_tracker(recipe)
    if stored:
        log_curation(recipe, store_of(recipe))
    sent = sum(deliver_kept(tracker, folder) for folder in folders)
    console.print(f"{sent:,} kept records sent to MLflow at {tracker.shown_uri}")
    return sent


def deliver_kept(tracker: Tracker, folder: Path) -> int:
    """Send what is kept in the folder of a run that nobody writes; how many records that were.

    Raises:
        UserError: MLflow went away meanwhile, or another command is writing the run.
    """
    with only_writer(folder, folder.name):
        if not kept_records(folder):
            return 0
        try:
            return tracker.deliver(folder)
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 (MLflow passes on errors of requests, SQLAlchemy and its own as they are)
            reason = redact(str(error).partition("\n")[0][:240])
            mend = "the records stay where they are; use `steady sync` again when MLflow answers"
            raise UserError("tracking.uri", f"{folder} could not be sent ({reason})", mend) from None


def say_what_is_kept(recipe: Recipe) -> None:
    """Tell the user when something is not in MLflow yet."""
    kept = {folder: kept_records(folder) for folder in _recorded(recipe.work_folder)}
    waiting = [folder for folder, records in kept.items() if records]
    if waiting:
        console.print(
            f"[yellow]{sum(kept.values()):,} records of {len(waiting)} run(s) are not in MLflow yet[/yellow]; they are kept "
            "and `steady sync` with this recipe sends them when it answers"
        )


def _recorded(work: Path) -> list[Path]:
    """Folders that belong to a run in MLflow, the parent first."""
    return [folder for folder in [work / "parent", *sorted(work.glob("runs/*"))] if (folder / FILE_NAME).is_file()]
