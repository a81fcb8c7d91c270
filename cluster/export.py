"""``steady export``: a checkpoint or the final model of a run as a Hugging Face folder with a model card."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

from cluster.changes import read_changes
from cluster.console import console
from cluster.run_folder import WORK, find_run, read_job, tracking_uri
from cluster.workflow import RESULT
from ground.errors import CorruptError, UserError
from ground.files import digest_file, write_atomic
from pipelines.plan import Plan
from pipelines.store import TokenStore
from tracking.history import read_history
from tracking.identity import load_identity
from training.checkpoint import CHECKPOINTS, checkpoint_folder, newest_first, read_position
from training.job import Job
from training.model_card import CardFacts, base_licence, model_card
from training.position import Position
from training.tasks.at_checkpoints import TASKS
from training.tasks.results import RESULTS, Evaluation, read_evaluation

MODEL, EXPORTS = "model", "exports"


def export_run(
    run: str, *, step: int | None = None, to: Path | None = None, dtype: str | None = None, register: str | None = None
) -> Path:
    """Export a run, say what was written and return the folder.

    Args:
        run: the folder of a run, or the name of one below ``.steady``.
        step: which checkpoint; None: the final model, or the newest whole checkpoint of a run that is not finished.
        to: folder to write; None: one below the run's that the step and the type name.
        dtype: ``float32``, ``bfloat16`` or ``float16``; None: as trained.
        register: name in the MLflow model registry.

    Raises:
        UserError: there is no such run or step, something it needs is missing, or ``to`` holds something else.
        CorruptError: the checkpoint is damaged.
    """
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # transformers loads DeepSpeed, which would look for one and warn
    folder = find_run(run)
    job, store = read_job(folder)
    plan = job.build_plan(store)
    uri = tracking_uri(folder) if register else None  # what would fail must fail before the work
    last = _last_step(folder)
    if last is not None and step in (None, last):
        source, position = folder / MODEL, None
    else:
        source, position = _choose(folder, job, step, last)
    chosen = last if position is None else position.step
    assert chosen is not None
    name = f"step-{chosen}" + (f"-{dtype}" if dtype else "")
    target = (to.expanduser() if to else folder / EXPORTS / name).resolve()
    _require_replaceable(target, job)
    target.parent.mkdir(parents=True, exist_ok=True)

    about = {
        "run": job.name,
        "job_digest": job.digest(),
        "step": chosen,
        "tokens": chosen * job.training.global_batch_tokens,
        "store_digest": store.digest,
    }
    card = partial(_card, folder, job, store, plan, position, target)
    console.print(f"exporting step {chosen} of {plan.steps} of {job.name}")
    _write(source, position, job, store, target, dtype, about, card)
    console.print(f"model in {target}", soft_wrap=True)
    if register and uri:
        _register(register, uri, folder, target)
    return target


def write_final_card(folder: Path, job: Job, store: TokenStore) -> None:
    """Write the model card of a finished run into its ``model`` folder."""
    from training.export import CARD, read_about

    model = folder / MODEL
    dtype = str((read_about(model) or {}).get("dtype", "the type of the training"))
    write_atomic(model / CARD, _card(folder, job, store, job.build_plan(store), None, model, dtype))


def _last_step(folder: Path) -> int | None:
    """Steps of a finished run; None while it is not."""
    path = folder / RESULT
    return int(json.loads(path.read_text())["steps"]) if path.is_file() else None


def _choose(folder: Path, job: Job, step: int | None, last: int | None) -> tuple[Path, Position]:
    """The checkpoint to export, every file of which is as it was written."""
    from training.consolidate import require_undamaged

    checkpoints = newest_first(folder / CHECKPOINTS)
    if step is not None:
        chosen = checkpoint_folder(folder / CHECKPOINTS, step)
        if chosen not in checkpoints:
            raise UserError("--step", f"run {job.name} has no checkpoint of step {step}", _choices(checkpoints, last))
        return chosen, _of_this_run(job, require_undamaged(chosen), chosen)
    problems = []
    for newest in checkpoints:
        try:
            position = require_undamaged(newest)
        except CorruptError as error:
            problems.append(error.problem)
            console.print(f"  left out: {error.problem}", soft_wrap=True)
            continue
        return newest, _of_this_run(job, position, newest)
    if problems:
        raise CorruptError("checkpoint", f"none is whole ({problems[0]})", "train on: a later one may be")
    raise UserError("RUN", f"{job.name} has no checkpoint and is not finished", "train on, then export")


def _choices(checkpoints: list[Path], last: int | None) -> str:
    steps = sorted(read_position(path).step for path in checkpoints)
    there = [f"{step}" for step in steps] + ([f"{last} (the end)"] if last is not None else [])
    return f"there are {', '.join(there)}" if there else "train on, then export"


def _of_this_run(job: Job, position: Position, checkpoint: Path) -> Position:
    if not job.accepts(position.job_digest):
        raise UserError("RUN", f"{checkpoint} belongs to a run with other settings", "give the folder of that run")
    return position


def _require_replaceable(target: Path, job: Job) -> None:
    """Only an earlier export of the same run may be replaced."""
    from training.export import read_about

    if target.is_file():
        raise UserError("--to", f"{target} is a file", "give a folder")
    if not target.is_dir() or not any(target.iterdir()):
        return
    if (read_about(target) or {}).get("job_digest") != job.digest():
        raise UserError("--to", f"{target} is not empty and no export of this run", "give a new folder")


def _write(
    source: Path,
    position: Position | None,
    job: Job,
    store: TokenStore,
    target: Path,
    dtype: str | None,
    about: dict[str, Any],
    card: partial[str],
) -> None:
    from training.export import DTYPES, export_checkpoint, export_folder

    chosen = DTYPES[dtype] if dtype else None
    if position is None:
        export_folder(source, target, dtype=chosen, about=about, card=card)
        return
    model = job.model.model_copy(update={"base": _base_folder(job)}) if job.base_digest else job.model
    export_checkpoint(
        source,
        model,
        target,
        vocabulary=store.manifest.vocabulary,
        end_of_document=store.manifest.end_of_document,
        tokenizer=store.tokenizer_path,
        dtype=chosen,
        about=about,
        card=card,
    )


def _base_folder(job: Job) -> str:
    """Where the configuration of a local base can be read: the base itself, or the run's final model."""
    places = [Path(str(job.model.base)), Path(job.folder) / MODEL]
    for place in places:
        if (place / "config.json").is_file():
            return str(place)
    raise UserError("RUN", f"its base model is not at {places[0]} any more", "put it back: its configuration is needed")


def _card(
    folder: Path, job: Job, store: TokenStore, plan: Plan, position: Position | None, target: Path, dtype: str
) -> str:
    length = job.training.sequence_length
    if position is None:
        seen = {use.name: use.tokens for use in plan.use()}
    else:
        seen = {name: sequences * length for name, sequences in position.shares.items()}
    step = plan.steps if position is None else position.step
    base = Path(job.model.base) if job.model.base else None
    is_folder = base is not None and (job.base_digest is not None or base.is_dir())
    facts = CardFacts(
        job=job,
        base=base.name if base and is_folder else str(job.model.base or "random weights"),
        base_licence=base_licence(base) if base and is_folder else None,
        store=store,
        plan=plan,
        step=step,
        tokens=step * job.training.global_batch_tokens,
        seen=seen,
        dtype=dtype,
        history=read_history(folder),
        changes=tuple(change.describe() for change in read_changes(folder) if change.step < step),
        evaluations=_evaluations(
            [target, *([folder / MODEL] if position is None else [])], folder / TASKS / f"step-{step}"
        ),
    )
    return model_card(facts)


def _evaluations(models: list[Path], at_checkpoint: Path) -> list[Evaluation]:
    """What ``steady evaluate`` found on these folders, by its default place, and what the run itself found at this step."""
    wanted = {model.resolve() for model in models}
    wanted_places = sorted((WORK / "evaluations").glob(f"*/{RESULTS}"))
    found = []
    for path in [at_checkpoint / RESULTS, *wanted_places]:
        try:
            done = read_evaluation(path.parent)
        except UserError:
            continue  # half-written or of another version: a card does without
        if path.parent == at_checkpoint or Path(str(done.settings.get("model", ""))).resolve() in wanted:
            found.append(done)
    return found


def _register(name: str, uri: str, folder: Path, target: Path) -> None:
    from tracking.connect import connect
    from tracking.registry import register_model
    from training.export import CARD, EXPORT, read_about

    identity = load_identity(folder)
    if identity is None or identity.run_id is None:
        raise UserError("--register", f"{folder} has no MLflow run yet", "let MLflow be reached, then train or report")
    about = read_about(target) or {}
    tags = {
        "steady.store": str(about["store_digest"]),
        "steady.run": str(about["run"]),
        "steady.run_id": identity.run_id,
        "steady.step": str(about["step"]),
        "steady.dtype": str(about["dtype"]),
        "steady.export": digest_file(target / EXPORT),
    }
    text = (target / CARD).read_text()
    body = text.split("---\n", 2)[-1].strip()  # without the front matter, which MLflow would show as text
    path = f"models/step-{about['step']}-{about['dtype']}"
    version = register_model(connect(uri), name, target, path, run_id=identity.run_id, tags=tags, description=body)
    console.print(f"registered as {name}, version {version}")
