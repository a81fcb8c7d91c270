"""Relative weight updates: known numbers, against the exported model, the same after a resume and at any ZeRO stage."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from pipelines.store import TokenStore
from tests.helpers.ranks import run_ranks
from tests.helpers.runs import TINY, ListReporter, run_tiny, tiny_job
from tests.training.conftest import FEW, SHORT, Finished
from training.config import EvaluationConfig, ModelConfig
from training.model import build_model
from training.updates import update_metrics


def test_bottom_and_top_of_ten_layers_are_five_each() -> None:
    metrics = update_metrics([float(i) for i in range(1, 11)])
    assert (metrics["update/bottom"], metrics["update/top"], metrics["update/ratio"]) == (3.0, 8.0, 3.0 / 8.0)
    assert metrics["update/layer_0"] == 1.0


@pytest.mark.parametrize(
    ("updates", "bottom", "top"), [([1.0, 3.0], 1.0, 3.0), ([1.0, 9.0, 3.0], 1.0, 3.0), ([2.0] * 12, 2.0, 2.0)]
)
def test_fewer_layers_are_halved_and_never_counted_twice(updates: list[float], bottom: float, top: float) -> None:
    metrics = update_metrics(updates)
    assert (metrics["update/bottom"], metrics["update/top"]) == (bottom, top)


def test_no_ratio_without_two_ends_or_with_a_top_at_rest() -> None:
    assert update_metrics([1.0]) == {"update/layer_0": 1.0}
    assert "update/ratio" not in update_metrics([1.0, 0.0])


@given(st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=40))
def test_turning_the_model_over_inverts_the_ratio(updates: list[float]) -> None:
    one, other = update_metrics(updates)["update/ratio"], update_metrics(updates[::-1])["update/ratio"]
    assert one * other == pytest.approx(1)


def last_updates(reporter: ListReporter) -> dict[str, float]:
    metrics = [r["metrics"] for r in reporter.records if "update/ratio" in r["metrics"]][-1]
    return {name: value for name, value in metrics.items() if name.startswith("update/")}


@pytest.fixture(scope="module")
def truth(store: TokenStore, few: Finished) -> dict[str, float]:
    base = build_model(
        ModelConfig(init="random", architecture=TINY),
        vocabulary=store.manifest.vocabulary,
        end_of_document=store.manifest.end_of_document,
        seed=7,
        checkpointing=False,
    ).state_dict()
    after = load_file(few.outcome.model / "model.safetensors")
    updates = []
    for layer in range(TINY.layers):
        names = sorted(name for name in after if f".layers.{layer}." in name)
        was, now = (torch.cat([weights[name].flatten() for name in names]).double() for weights in (base, after))
        updates.append(float((now - was).norm() / was.norm()))
    return update_metrics(updates)


@pytest.mark.parametrize("stage", [0, 1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_every_stage_measures_what_the_exported_weights_tell(
    store: TokenStore, few: Finished, truth: dict[str, float], tmp_path: Path, stage: int
) -> None:
    reporter = few.reporter if stage == 1 else run_tiny(store, tmp_path, **FEW, zero_stage=stage)[0]
    assert last_updates(reporter) == pytest.approx(truth, rel=1e-3)
    assert truth["update/layer_0"] > 1e-3


@pytest.mark.parametrize("stage", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_bf16_does_not_drown_small_updates_in_rounding(store: TokenStore, tmp_path: Path, stage: int) -> None:
    """At a rate far below what bf16 resolves."""
    changes: dict[str, Any] = FEW | {"learning_rate": 1e-5, "zero_stage": stage}
    exact = last_updates(run_tiny(store, tmp_path / "fp32", **changes)[0])
    coarse = last_updates(run_tiny(store, tmp_path / "bf16", **changes, precision="bf16")[0])
    assert coarse["update/layer_0"] == pytest.approx(exact["update/layer_0"], rel=1e-3)


def test_a_resumed_run_compares_with_the_base(store: TokenStore, finished: Finished, tmp_path: Path) -> None:
    checkpoint = finished.folder / "checkpoints" / "step-16"
    reporter, _ = run_tiny(store, tmp_path, resume=checkpoint, **SHORT)
    assert last_updates(reporter) == last_updates(finished.reporter)  # to the last bit
    firsts = [r["metrics"]["update/layer_0"] for r in reporter.records if "update/layer_0" in r["metrics"]]
    assert firsts == sorted(firsts)  # ever further from the base, not from step 16


def test_they_are_measured_with_the_held_out_loss_and_can_be_left_out(
    store: TokenStore, few: Finished, tmp_path: Path
) -> None:
    for record in few.reporter.records:
        assert ("update/layer_1" in record["metrics"]) == (
            "heldout/med/loss" in record["metrics"] and record["step"] > 0
        )
    without = EvaluationConfig(points=5, sequences=8, layer_updates=False)
    reporter, _ = run_tiny(store, tmp_path, **FEW, evaluation=without)
    assert not any(name.startswith("update/") for record in reporter.records for name in record["metrics"])
    assert reporter.curve("train/loss") == few.reporter.curve("train/loss")


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 3])
def test_two_workers_measure_what_one_does(store: TokenStore, finished: Finished, tmp_path: Path, stage: int) -> None:
    """Also when the second goes on from the first one's checkpoint."""
    changes = SHORT | {"zero_stage": stage}
    records = run_ranks(tiny_job(store, tmp_path / "two", **changes, workers=2), 2)
    assert last_updates(ListReporter(records)) == pytest.approx(last_updates(finished.reporter), rel=1e-3)
    shutil.copytree(tmp_path / "two" / "checkpoints" / "step-16", tmp_path / "one" / "checkpoints" / "step-16")
    alone = run_ranks(tiny_job(store, tmp_path / "one", **changes), 1)
    assert last_updates(ListReporter(alone)) == pytest.approx(last_updates(finished.reporter), rel=1e-3)
