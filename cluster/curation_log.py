"""A curation as a run of its own in MLflow, one for each store, with its report.

Everything it says stands in the store, so that nothing is lost while MLflow is out of reach: the next call logs it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from cluster.console import console
from cluster.recipe import Recipe, to_yaml
from cluster.reporting import score_label
from cluster.workflow import open_tracker
from ground.errors import UserError
from ground.files import canonical_json, digest_bytes, write_atomic
from pipelines.store import LINEAGE, TokenStore
from tracking.corpus_plots import write_corpus_plots
from tracking.curation import SourceFunnel, read_funnel
from tracking.report import render_curation_report
from tracking.runs import RunLog, Tracker

KIND = "curation"
_REPORT, _FUNNEL, _PLOTS, _RECORDED = "curation.html", "funnel.json", "plots", "recorded.json"
_NOT_IN_NAME = re.compile(r"[^\w.\- ]", re.ASCII)


def log_curation(recipe: Recipe, store: TokenStore) -> Path:
    """Write the report of a store's curation, log it unless that is done, and say where it is; returns the report.

    Never fails because of MLflow: what it refuses is said, and logged by the next call.

    Raises:
        OSError: the recipe's work folder cannot be written.
    """
    folder = recipe.work_folder / "curation-log" / store.digest
    name = f"curation {store.digest[:8]}"
    sources = read_funnel(store.manifest.funnel)
    files = _write_files(recipe, store, sources, folder)
    problem = _send(recipe, store, sources, folder, name, files)
    where = f"not in MLflow yet ({problem})" if problem else f"the same in MLflow, run {name!r}"
    console.print(f"curation report {folder / _REPORT}; {where}", soft_wrap=True, markup=False)
    return folder / _REPORT


def _send(
    recipe: Recipe,
    store: TokenStore,
    sources: tuple[SourceFunnel, ...],
    folder: Path,
    name: str,
    files: Mapping[Path, str | None],
) -> str:
    """Log the run, or say what is in the way."""
    try:
        tracker = open_tracker(recipe)
        if _is_logged(tracker, store):
            return ""
        log = tracker.run(
            name,
            folder,
            tags={"steady.kind": KIND, "steady.store": store.digest},
            params={
                "curation": recipe.curation.model_dump(mode="json", exclude_none=True),
                "sources": {
                    name: source.model_dump(mode="json", exclude_unset=True, exclude={"paths"})
                    for name, source in recipe.sources.items()
                },
            },
            description=recipe.description,
        )
    except UserError as error:
        return str(error)
    with log:
        if not (folder / _RECORDED).is_file():  # a run that waits in its spool already has everything
            _record(log, recipe, store, sources, files)
            write_atomic(folder / _RECORDED, canonical_json({"store": store.digest}))
    left = log.finish()  # it has ended: only counts
    return f"{left} records wait in {folder}" if left else ""


def curation_metrics(sources: tuple[SourceFunnel, ...]) -> dict[str, float]:
    """Metrics of a funnel by MLflow name: ``<group>/<source>/<what>``, and ``total/<what>`` over all stored sources."""
    metrics: dict[str, float] = {}
    totals: dict[str, float] = {}
    for source in sources:
        for what, value in _funnel_metrics(source):
            metrics[f"funnel/{source.name}/{what}"] = value
            if source.role != "reference":
                totals[what] = totals.get(what, 0) + value
        counts: dict[str, Mapping[str, int]] = {
            "dropped": {reason: amount.documents for reason, amount in source.dropped.items()},
            "repaired": source.repaired,
            "redacted": source.redacted,
            "contaminated": source.contaminated,
        }
        for group, values in counts.items():
            metrics |= {f"{group}/{source.name}/{_safe(kind)}": float(value) for kind, value in values.items()}
        if source.role == "domain" and source.scores is not None:
            tenths = {f"p{tenth}0": source.scores.quantile(tenth / 10) for tenth in (1, 5, 9)}
            metrics |= {f"score/{source.name}/{tenth}": value for tenth, value in tenths.items()}
    return metrics | {f"total/{what}": value for what, value in totals.items()}


def _funnel_metrics(source: SourceFunnel) -> Iterator[tuple[str, float]]:
    yield "read_documents", source.read.documents
    yield "read_bytes", source.read.bytes
    for stage, lost in source.losses().items():
        yield f"dropped_{stage}_documents", lost.documents
        if stage != "read":
            yield f"dropped_{stage}_tokens", lost.tokens
    for split, amount in (("kept", source.kept), ("heldout", source.heldout)):
        yield f"{split}_documents", amount.documents
        yield f"{split}_tokens", amount.tokens


def _is_logged(tracker: Tracker, store: TokenStore) -> bool:
    """Whether the experiment has the finished run of this store, from here or from another work folder.

    Its end is the last thing sent, so a finished run is a complete one.
    """
    from mlflow.exceptions import MlflowException

    query = f"tags.`steady.kind` = '{KIND}' and tags.`steady.store` = '{store.digest}' and status = 'FINISHED'"
    try:
        return bool(tracker.client.search_runs([tracker.experiment_id], query, max_results=1))
    except MlflowException:  # out of reach: the run waits in its spool
        return False


def _record(
    log: RunLog, recipe: Recipe, store: TokenStore, sources: tuple[SourceFunnel, ...], files: Mapping[Path, str | None]
) -> None:
    for source in sources:
        paths = recipe.sources[source.name].paths if source.name in recipe.sources else ()
        profile = {
            "documents": source.read.documents,
            "bytes": source.read.bytes,
            "kept_documents": source.kept.documents,
            "kept_tokens": source.kept.tokens,
        }
        log.dataset(source.name, _input_digest(store, source.name), " ".join(paths), source.role, profile)
    log.log({"step": 0, "tokens": 0, "metrics": curation_metrics(sources)})
    for file, place in files.items():
        log.artifact(file, place)


def _input_digest(store: TokenStore, source: str) -> str:
    """Digest of a source's input files, from the store's lineage; that of the store where it does not tell them."""
    files: list[str] = store.manifest.lineage.get("sources", {}).get(source, {}).get("files", [])
    return digest_bytes("\n".join(files)) if files else store.digest


def _write_files(
    recipe: Recipe, store: TokenStore, sources: tuple[SourceFunnel, ...], folder: Path
) -> dict[Path, str | None]:
    """The files that are not there yet, and for all of them the artifact folder; they stay, since they may be sent later."""
    funnel, report, plots = folder / _FUNNEL, folder / _REPORT, folder / _PLOTS
    if not report.is_file():
        write_atomic(funnel, canonical_json(store.manifest.funnel))
        write_corpus_plots(sources, score_label(recipe), plots)
        subtitle = f"{time.strftime('%Y-%m-%d %H:%M')}, token store {store.digest}"
        write_atomic(
            report,
            render_curation_report(
                f"Curation of {recipe.name}", subtitle, sources, score_label(recipe), to_yaml(recipe)
            ),
        )
    files: dict[Path, str | None] = {report: "report", funnel: None}
    files |= dict.fromkeys(sorted(plots.glob("*.png")), _PLOTS)
    lineage = store.path / LINEAGE
    return files | ({lineage: None} if lineage.is_file() else {})


def _safe(kind: str) -> str:
    """A reason or task as a part of a metric's name."""
    name = _NOT_IN_NAME.sub("_", kind)
    return name if re.match(r"[A-Za-z0-9_]", name) else f"_{name}"
