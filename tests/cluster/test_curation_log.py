"""A curation's run in MLflow: complete, once for each store, and never in the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from cluster import curation_log
from cluster.curation_log import curation_metrics, log_curation
from cluster.recipe import Recipe, load_recipe
from cluster.reporting import score_label
from pipelines.store import LINEAGE, TokenStore, seal
from tests.helpers.recipes import small_recipe
from tests.tracking.sample import old_funnel, sample_funnel
from tracking.curation import read_funnel
from tracking.runs import RunLog

NAMES = {"med": "medical", "wiki": "wikipedia", "ref": "textbook"}


def with_funnel(recipe: Recipe, funnel: dict[str, Any]) -> TokenStore:
    """The recipe's store, sealed anew with a funnel and a lineage file."""
    store = TokenStore.open(recipe.store_folder)
    funnel = {name: funnel[known] for name, known in NAMES.items()}
    lineage = {"sources": {"med": {"files": ["ab" * 16]}}}
    (store.path / LINEAGE).write_text("{}")
    seal(store.path, store.manifest.model_copy(update={"funnel": funnel, "lineage": lineage}))
    return TokenStore.open(store.path)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def recipe(tmp_path: Path, database: str) -> Recipe:
    """A recipe with an experiment of its own in one database: a new database takes seconds."""
    return load_recipe(small_recipe(tmp_path, tracking={"uri": database, "experiment": str(tmp_path)}))


@pytest.fixture
def store(recipe: Recipe) -> TokenStore:
    return with_funnel(recipe, sample_funnel())


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the work of drawing."""
    monkeypatch.setattr(curation_log, "render_curation_report", lambda *_: "<p>report")
    monkeypatch.setattr(curation_log, "write_corpus_plots", lambda *_: [])


def runs(recipe: Recipe) -> list[Run]:
    client = MlflowClient(recipe.tracking.resolved_uri(recipe.work_folder))
    experiment = client.get_experiment_by_name(recipe.tracking.experiment or recipe.name)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


@pytest.mark.slow
def test_a_run_with_everything(recipe: Recipe, store: TokenStore, capsys: pytest.CaptureFixture[str]) -> None:
    report = log_curation(recipe, store)
    assert report.stat().st_size > 1_000_000 and "Corpus" in report.read_text()
    (run,) = runs(recipe)
    assert f"run {run.info.run_name!r}" in capsys.readouterr().out
    assert run.info.status == "FINISHED"
    assert run.data.tags["steady.kind"] == "curation" and run.data.tags["steady.store"] == store.digest
    assert run.data.params["curation.heldout_fraction"] == "0.1"
    assert run.data.params["sources.wiki.role"] == "general"
    metrics = run.data.metrics
    assert metrics["funnel/med/read_documents"] == 14_210
    assert metrics["funnel/med/dropped_filters_documents"] == 909
    assert metrics["funnel/med/kept_tokens"] == store.manifest.funnel["med"]["kept"]["tokens"]
    assert metrics["dropped/wiki/too_short"] == 1_204
    assert metrics["redacted/med/DATE"] == 1_200
    assert 1.5 < metrics["score/med/p50"] < 3
    assert metrics["total/read_documents"] == 14_210 + 9_803  # the reference is not stored
    assert run.inputs is not None
    inputs = {entry.dataset.name: entry for entry in run.inputs.dataset_inputs}
    assert inputs.keys() == {"med", "wiki", "ref"}
    assert [tag.value for tag in inputs["ref"].tags] == ["reference"]
    assert "med.jsonl" in inputs["med"].dataset.source
    assert inputs["med"].dataset.digest != inputs["wiki"].dataset.digest == store.digest
    client = MlflowClient(recipe.tracking.resolved_uri(recipe.work_folder))
    artifacts = {
        file.path for folder in ("", "report", "plots") for file in client.list_artifacts(run.info.run_id, folder)
    }
    assert {"funnel.json", "lineage.json", "report/curation.html", "plots/corpus.png", "plots/scores.png"} <= artifacts


@pytest.mark.usefixtures("plain")
def test_a_store_is_logged_once_and_another_store_again(recipe: Recipe, store: TokenStore, tmp_path: Path) -> None:
    log_curation(recipe, store)
    ended = runs(recipe)[0].info.end_time
    log_curation(recipe, store)
    assert [run.info.end_time for run in runs(recipe)] == [ended]
    shutil.rmtree(recipe.work_folder / "curation-log")  # as from another work folder
    log_curation(recipe, store)
    assert len(runs(recipe)) == 1
    log_curation(recipe, with_funnel(recipe, old_funnel()))
    assert len({run.data.tags["steady.store"] for run in runs(recipe)}) == 2


@pytest.mark.usefixtures("plain")
def test_a_kill_in_between_leaves_one_run(recipe: Recipe, store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: RunLog, path: Path, folder: str | None = None) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunLog, "artifact", killed)
        log_curation(recipe, store)
    assert [run.info.status for run in runs(recipe)] == ["KILLED"]
    log_curation(recipe, store)
    (run,) = runs(recipe)
    assert run.info.status == "FINISHED"
    client = MlflowClient(recipe.tracking.resolved_uri(recipe.work_folder))
    assert len(client.get_metric_history(run.info.run_id, "funnel/med/kept_tokens")) == 1
    assert client.list_artifacts(run.info.run_id, "report")


@pytest.mark.usefixtures("plain")
def test_mlflow_out_of_reach_stops_nothing(
    tmp_path: Path, store: TokenStore, recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking = recipe.tracking.model_copy(update={"uri": "http://127.0.0.1:9"})
    report = log_curation(recipe.model_copy(update={"tracking": tracking}), store)
    assert report.is_file()
    assert "not in MLflow yet" in capsys.readouterr().out
    log_curation(recipe, store)  # it is back
    assert len(runs(recipe)) == 1


@pytest.mark.usefixtures("plain")
def test_a_deleted_run_is_filled_again(recipe: Recipe, store: TokenStore, database: str) -> None:
    log_curation(recipe, store)
    (first,) = runs(recipe)
    MlflowClient(database).delete_run(first.info.run_id)
    log_curation(recipe, store)
    (run,) = runs(recipe)
    assert run.info.run_id != first.info.run_id
    assert run.data.metrics["funnel/med/read_documents"] == 14_210


def test_odd_reasons_become_names_that_mlflow_takes() -> None:
    value = sample_funnel()["medical"] | {"dropped": {"a/b: 100%": {"documents": 3}, "-x": {"documents": 1}}}
    metrics = curation_metrics(read_funnel({"all": value}))
    assert metrics["dropped/all/a_b_ 100_"] == 3 and metrics["dropped/all/_-x"] == 1
    json.dumps(metrics, allow_nan=False)


def test_an_old_store_has_metrics_too() -> None:
    new, old = curation_metrics(read_funnel(sample_funnel())), curation_metrics(read_funnel(old_funnel()))
    assert old.keys() < new.keys()
    assert old["total/kept_tokens"] == new["total/kept_tokens"] > 0


@pytest.mark.parametrize(
    ("quality", "label"),
    [
        ({}, "quality score, \u2212log10 probability per token"),
        ({"units": "words", "method": "perplexity"}, "quality score, \u2212log10 probability per word"),
        ({"method": "difference"}, "quality score, log10 ratio of general to reference probability per token"),
        ({"method": "classifier"}, "quality score, log odds of general against reference text"),
    ],
)
def test_the_axis_of_scores_says_its_unit(tmp_path: Path, quality: dict[str, str], label: str) -> None:
    curation = {"train_tokenizer": {"vocabulary": 300}, "quality": quality}
    assert score_label(load_recipe(small_recipe(tmp_path, with_store=False, curation=curation))) == label
