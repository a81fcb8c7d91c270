"""The commands of ``steady``, one function each: read the recipe, do the work, say what happened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.markup import escape

from cluster.changes import check_allowed
from cluster.console import RunProgress, console, duration, show_plan, show_results
from cluster.export import write_final_card
from cluster.memory_view import show_memory
from cluster.recipe import Recipe
from cluster.reporting import build_report, write_reports
from cluster.stores import store_of
from cluster.sync import deliver_kept, say_what_is_kept
from cluster.workflow import (
    RESULT,
    Finished,
    Planned,
    choose_device,
    finished_run,
    gap_record,
    make_job,
    open_tracker,
    plan_runs,
    run_job,
    summarise,
)
from ground.errors import UserError
from pipelines.store import TokenStore
from tracking.history import read_history
from tracking.runs import RunLog, Tracker
from training.flops import device_peak, measure_cpu_peak
from training.job import Job
from training.memory import named_gpu_bytes

_START_SECONDS = 25  # workers, imports and the first evaluation of one run


def plan_recipe(recipe: Recipe) -> list[Planned]:
    """Plan all runs and show what they would cost; starts nothing."""
    training = recipe.training
    gpus, name = local_gpus()
    device = "gpu" if training.accelerator == "gpu" else choose_device(training, gpus)
    peak = _peak(device, training.gpu or name, training.threads or max(1, (os.cpu_count() or 1) // training.workers))
    capacity = gpu_memory_of(training.gpu)
    planned = plan_runs(recipe, device=device, peak_flops=peak, gpu_memory=capacity)
    show_plan(planned, device)
    if device == "gpu" or training.gpu:
        show_memory(planned, training.gpu or name, capacity)
    return planned


def train_recipe(recipe: Recipe, only: Sequence[str] = (), allow: Sequence[str] = ()) -> list[Finished]:
    """Train every run of the recipe (or those in ``only``), each logged as a child of one MLflow run.

    Args:
        allow: fields with which a run that has begun may go on though the recipe changed.
    """
    from cluster.session import session

    check_allowed(allow)
    unknown = set(only) - set(recipe.variants())
    if unknown:
        raise UserError(
            "--only", f"{sorted(unknown)[0]!r} is no run of this recipe", f"use {', '.join(recipe.variants())}"
        )
    store = store_of(recipe, verify=True)
    planned = [plan for plan in plan_recipe(recipe) if not only or plan.name in only]
    if not (recipe.cluster.address or os.environ.get("RAY_ADDRESS")):
        choose_device(recipe.training, local_gpus()[0])  # known without starting Ray
    jobs = {plan.name: make_job(plan, store, allow) for plan in planned}
    tracker = open_tracker(recipe, or_later=True)
    total = sum(plan.estimate.seconds or 0 for plan in planned) + _START_SECONDS * len(planned)
    console.print(
        f"training {len(planned)} run(s), about {duration(total)} with start-up; MLflow at {tracker.shown_uri}"
    )
    say_unreachable(tracker)
    with session(recipe.cluster.address):
        use_gpu = _device_on_cluster(recipe) == "gpu"
        with _parent_run(tracker, recipe, store) as parent:
            finished = [_train_one(plan, jobs[plan.name], tracker, parent, store, use_gpu) for plan in planned]
    show_results(finished, {name: source.role for name, source in store.manifest.sources.items()})
    say_what_is_kept(recipe)
    return finished


def _train_one(plan: Planned, job: Job, tracker: Tracker, parent: RunLog, store: TokenStore, use_gpu: bool) -> Finished:
    """Train one run, unless it is complete already, and log it as a child of ``parent``."""
    folder = Path(job.folder)
    outcome = finished_run(job)
    if outcome is not None:
        console.print(f"  {plan.name}: complete already")
        if not tracker.unreachable:
            with suppress(UserError):  # what could not be sent is told at the end
                deliver_kept(tracker, folder)
        return summarise(plan.name, outcome, read_history(folder))
    tracking = plan.recipe.tracking
    with _child_run(tracker, parent, plan, store) as log, RunProgress(plan.name, plan.plan.steps) as progress:
        sample_s = tracking.system_metrics_interval_s if tracking.system_metrics else None
        if sample_s is not None:
            log.start_system_metrics(sample_s)
        outcome = run_job(job, log, progress.take, use_gpu=use_gpu, sample_s=sample_s)
        finished = summarise(plan.name, outcome, read_history(folder))
        log.log(gap_record(finished))
        write_final_card(folder, job, store)
    return finished


def report_recipe(recipe: Recipe, *, show: bool = True) -> Path:
    """Write the HTML report and the plots of all finished runs, and log them to MLflow; ``show``: the table here too."""
    store = store_of(recipe)
    planned = plan_runs(recipe, device="cpu", peak_flops=None, gpu_memory=gpu_memory_of(recipe.training.gpu))
    finished = []
    for plan in planned:
        folder = recipe.work_folder / "runs" / plan.name
        if (folder / RESULT).is_file() and (outcome := finished_run(make_job(plan, store))) is not None:
            finished.append(summarise(plan.name, outcome, read_history(folder)))
    if not finished:
        raise UserError(
            "runs", f"none is finished in {recipe.work_folder / 'runs'}", "run `steady train` with this recipe"
        )
    data = build_report(recipe, store, planned, finished)
    folder = recipe.work_folder / "report"
    files = write_reports(data, folder)
    tracker = open_tracker(recipe, or_later=True)
    say_unreachable(tracker)
    with _parent_run(tracker, recipe, store) as parent:
        for file in files:
            parent.artifact(file, "report" if file.suffix == ".html" else "plots")
    say_what_is_kept(recipe)
    if show:
        show_results(finished, {name: source.role for name, source in store.manifest.sources.items()})
    where = "in MLflow later" if tracker.unreachable else "the same in MLflow"
    console.print(f"report {folder / 'report.html'}; {where}, run {recipe.name!r}, under Artifacts")
    return folder / "report.html"


def _parent_run(tracker: Tracker, recipe: Recipe, store: TokenStore) -> RunLog:
    parent = tracker.run(
        recipe.name,
        recipe.work_folder / "parent",
        tags={"steady.kind": "comparison" if recipe.runs else "single", "steady.store": store.digest},
        params={"recipe": recipe.model_dump(mode="json", exclude={"runs", "sources"}, exclude_unset=True)},
        description=recipe.description,
    )
    log_datasets(parent, store)
    return parent


def _child_run(tracker: Tracker, parent: RunLog, planned: Planned, store: TokenStore) -> RunLog:
    recipe, plan = planned.recipe, planned.plan
    log = tracker.run(
        planned.name,
        recipe.work_folder / "runs" / planned.name,
        parent=parent,
        tags={"steady.kind": "run", "steady.store": store.digest},
        params={
            "mixture": recipe.mixture.model_dump(mode="json") | {"shares": plan.shares},
            "training": recipe.training.model_dump(mode="json"),
            "model": recipe.model.model_dump(mode="json", exclude_none=True),
            "seed": recipe.seed,
            "plan": {"steps": plan.steps, "tokens": plan.total_tokens, "flops": planned.estimate.flops},
        },
        description=recipe.description,
    )
    log_datasets(log, store)
    return log


def log_datasets(log: RunLog, store: TokenStore) -> None:
    """Record the store's sources as the run's data."""
    for name, source in store.manifest.sources.items():
        profile = {
            "documents": source.train.documents,
            "tokens": source.train.tokens,
            "heldout_tokens": source.heldout.tokens,
        }
        log.dataset(name, f"{store.digest}", f"{store.location}/{name}", source.role, profile)


def say_unreachable(tracker: Tracker) -> None:
    """Tell the user when MLflow does not answer."""
    if tracker.unreachable:
        console.print(
            f"[yellow]MLflow is out of reach[/yellow] ({escape(tracker.unreachable)}); what is recorded is kept on disk"
        )


def _device_on_cluster(recipe: Recipe) -> str:
    from training.launch import gpus_available

    return choose_device(recipe.training, gpus_available())


def local_gpus() -> tuple[int, str | None]:
    """GPUs of this machine: how many, and the first one's name."""
    import torch

    if not torch.cuda.is_available():
        return 0, None
    return torch.cuda.device_count(), torch.cuda.get_device_name(0)


def gpu_memory_of(named: str | None) -> float | None:
    """Bytes of one GPU: of the type that the recipe names, else of this machine's; None where neither is known."""
    if named:
        return named_gpu_bytes(named)
    import torch

    return float(torch.cuda.get_device_properties(0).total_memory) if torch.cuda.is_available() else None


def _peak(device: str, name: str | None, threads: int) -> float | None:
    if device == "gpu":
        return device_peak(name, bf16=True) if name else None
    import torch

    torch.set_num_threads(threads)
    return measure_cpu_peak()
