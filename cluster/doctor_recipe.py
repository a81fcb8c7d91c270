"""What `steady doctor` looks at of a recipe: whether it could run here, or on its cluster, as it is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cluster.doctor_lines import Finding, Level, attempt, installed
from cluster.recipe import Recipe
from cluster.workflow import Planned, choose_device, plan_runs
from ground.errors import UserError

_CHECKPOINT_BYTES = 16
"""A parameter in a checkpoint: fp32 weight, two moments, the 16-bit weight, and what rounds up."""


def inputs(recipe: Recipe) -> Iterator[Finding]:
    """The sources' files."""
    from pipelines.readers import expand_source

    for name, source in recipe.sources.items():
        yield attempt(
            f"source {name}",
            lambda n=name, s=source: f"{len(expand_source(s, f'sources.{n}'))} file(s)",  # type: ignore[misc]
        )


def plans(recipe: Recipe, path: str) -> list[Finding]:
    """The plan of every run, and room for their checkpoints."""
    told = all(source.tokens for source in recipe.sources.values() if source.role != "reference")
    if not recipe.store_url and not (recipe.store_folder / "COMPLETE").is_file() and not told:
        return [Finding("plan", "note", "no token store yet", f"run `steady curate {path}` first")]
    planned: list[Planned] = []

    def plan() -> str:
        planned.extend(plan_runs(recipe, device="cpu", peak_flops=None))
        return f"{len(planned)} run(s) planned"

    findings = [attempt("plan", plan)]
    return [*findings, _room(recipe, planned)] if planned else findings


def _room(recipe: Recipe, planned: Sequence[Planned]) -> Finding:
    """The checkpoints of all runs at once: those that are kept, and one that is being written."""
    need = sum(_CHECKPOINT_BYTES * p.estimate.parameters * (p.recipe.training.keep_checkpoints + 1) for p in planned)
    place = _existing(recipe.work_folder.absolute())
    free = shutil.disk_usage(place).free
    found = f"checkpoints take about {need / 1e9:.1f} GB, {place} has {free / 1e9:.1f} GB free"
    level: Level = "ok" if free > need else "broken"
    return Finding("room", level, found, "free some space, lower training.keep_checkpoints, or set another work folder")


def devices(recipe: Recipe, cluster: Mapping[str, float] | None) -> Finding:
    """Whether there are as many GPUs or CPUs as the run with most workers asks for.

    Args:
        cluster: resources of the Ray cluster; None: this machine is all there is.
    """
    gpus = int(cluster.get("GPU", 0)) if cluster is not None else _local_gpus()
    where = "the cluster" if cluster is not None else "this machine"
    needs = [variant.training for variant in recipe.variants().values()]

    def fits() -> str:
        chosen = {choose_device(training, gpus) for training in needs}
        workers = max(training.fewest_workers for training in needs)
        if cluster is not None and workers > cluster.get("CPU", 0):
            have = f"{workers} workers need {workers} CPUs, the cluster has {cluster.get('CPU', 0):g}"
            raise UserError("training.workers", have, "use fewer workers or a larger cluster")
        return f"{max(training.workers for training in needs)} worker(s) on {' and '.join(sorted(chosen))} of {where}"

    return attempt("device", fits)


def tools(recipe: Recipe) -> Iterator[Finding]:
    """Programs and packages that only some settings need."""
    trainings = [variant.training for variant in recipe.variants().values()]
    if any(training.compile for training in trainings):
        compiler = next(
            (tool for tool in (os.environ.get("CXX"), "g++", "c++", "clang++") if tool and shutil.which(tool)), None
        )
        found = (
            f"training.compile with {compiler}" if compiler else "training.compile is on, and there is no C++ compiler"
        )
        yield Finding(
            "compiler", "ok" if compiler else "broken", found, "apt-get install g++, or set training.compile=false"
        )
    if any(training.attention == "flash_attention_2" for training in trainings):
        version = installed("flash-attn")
        found = f"flash-attn {version}" if version else "training.attention asks for flash-attn, which is not installed"
        yield Finding(
            "attention", "ok" if version else "broken", found, "pip install flash-attn, or training.attention=auto"
        )
    if recipe.evaluation.tasks and not installed("lm-eval"):
        mend = "pip install -c constraints.txt -e '.[lm-eval]'"
        yield Finding("tasks", "broken", "evaluation.tasks needs lm-eval, which is not installed", mend)


def urls(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Field and URL of everything that the recipe names by URL."""
    for name, source in recipe.sources.items():
        yield from ((f"sources.{name}.paths", path) for path in source.paths if "://" in path)
    mirror = recipe.training.checkpoint_mirror
    if mirror and "://" in mirror:
        yield "training.checkpoint_mirror", mirror


def _local_gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _existing(folder: Path) -> Path:
    """The nearest folder above that is there."""
    while not folder.is_dir():
        folder = folder.parent
    return folder
