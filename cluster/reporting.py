"""From finished runs to what the report shows."""

from __future__ import annotations

import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cluster.changes import read_changes
from cluster.console import plan_rows
from cluster.recipe import Recipe, to_yaml
from cluster.task_results import find_task_results
from cluster.workflow import Finished, Planned
from ground.files import write_atomic
from pipelines.store import TokenStore
from tracking.curation import read_funnel
from tracking.history import read_history
from tracking.identity import load_identity
from tracking.plots import write_plots
from tracking.redact import redact
from tracking.report import write_report
from tracking.report_data import BaseModel, Gap, ReportData, RunData, Totals
from training.gap import GapMetrics

_PACKAGES = ("steady", "ray", "torch", "deepspeed", "transformers", "mlflow", "pyarrow", "kenlm-ex")


def build_report(recipe: Recipe, store: TokenStore, planned: list[Planned], finished: list[Finished]) -> ReportData:
    """Everything the report of a recipe's finished runs shows."""
    plans = {plan.name: plan for plan in planned}
    first = finished[0]
    tasks, unread = find_task_results(recipe, finished)
    return ReportData(
        title=recipe.name,
        created=time.strftime("%Y-%m-%d %H:%M"),
        recipe=redact(to_yaml(recipe)),
        base=BaseModel(
            name=recipe.model.base or "random weights",
            parameters=plans[first.name].estimate.parameters,
            losses=_first_points(first, "loss"),
            bits_per_byte=_first_points(first, "bits_per_byte"),
        ),
        runs=tuple(_run(recipe, plans[run.name], run) for run in finished),
        tasks=tasks,
        funnel=read_funnel(store.manifest.funnel),
        score_label=score_label(recipe),
        versions=_versions(store),
        seed=recipe.seed,
        notes=(*unread, *_changes(recipe, finished)),
    )


def write_reports(data: ReportData, folder: Path) -> list[Path]:
    """Write ``report.html``, its data as JSON and the plots; returns the files to log as artifacts."""
    html = folder / "report.html"
    write_report(data, html)
    write_atomic(folder / "report.json", data.to_json())
    return [html, *write_plots(data, folder / "plots")]


def _run(recipe: Recipe, planned: Planned, run: Finished) -> RunData:
    folder = recipe.work_folder / "runs" / run.name
    identity = load_identity(folder)
    speeds = [value for _, value in run.curves.get("train/mfu", [])]
    curves = {
        name: tuple(points) for name, points in read_history(folder).items() if not name.startswith(("system/", "gap/"))
    }
    return RunData(
        name=run.name,
        description=planned.recipe.description,
        params={"seed": str(planned.recipe.seed), "learning rate": f"{planned.recipe.training.learning_rate:g}"},
        plan=plan_rows(planned),
        shares=dict(planned.plan.shares),
        curves=curves,
        gaps={source: _gap(run, source, gap) for source, gap in run.gaps.items()},
        totals=Totals(
            tokens=run.outcome.tokens,
            seconds=run.outcome.seconds,
            tokens_per_second=run.outcome.tokens / run.outcome.seconds,
            mfu=sum(speeds) / len(speeds) if speeds else None,
        ),
        run_id=(identity.run_id or "") if identity else "",
    )


def _changes(recipe: Recipe, finished: list[Finished]) -> list[str]:
    """A run that went on under other settings is not what the recipe alone gives."""
    told = []
    for run in finished:
        changes = read_changes(recipe.work_folder / "runs" / run.name)
        told += [f"Run {run.name} went on under other settings at {change.describe()}." for change in changes]
    return told


def _gap(run: Finished, source: str, gap: GapMetrics) -> Gap:
    """The same gap in terms of loss, which is minus the score."""
    return Gap(
        depth=gap.depth,
        area=gap.area,
        recovery_tokens=None if gap.recovery_tokens is None else round(gap.recovery_tokens),
        peak=-gap.peak,
        tokens_to_peak=round(gap.tokens_to_peak),
        final=run.curves[f"heldout/{source}/loss"][-1][1],
        forgetting=gap.forgetting,
    )


def score_label(recipe: Recipe) -> str:
    """What the quality scores of the recipe count in, for the axis of a histogram."""
    quality = recipe.curation.quality
    unit = f"per {quality.units.removesuffix('s')}"
    if quality.method == "difference":
        return f"quality score, log10 ratio of general to reference probability {unit}"
    if quality.method == "classifier":
        return "quality score, log odds of general against reference text"
    if quality.method == "ifd":
        return "quality score, \u2212IFD (+IFD from 1 on)"
    if quality.field is not None:
        sign = "\u2212" if quality.field.higher_is_better else ""
        return f"quality score, {sign}{quality.field.name}"
    return f"quality score, \u2212log10 probability {unit}"


def _first_points(run: Finished, kind: str) -> dict[str, float]:
    return {
        name.split("/")[1]: points[0][1]
        for name, points in run.curves.items()
        if name.startswith("heldout/") and name.endswith(f"/{kind}")
    }


def _versions(store: TokenStore) -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found | {"python": platform.python_version(), "machine": platform.machine(), "token store": store.digest}
