"""The whole core in this process: golden losses, ZeRO stages, exact resume, what is recorded, what is refused."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from ground.errors import UserError
from ground.files import digest_file
from pipelines.store import TokenStore
from tests.helpers.runs import TIMED, run_tiny
from tests.training.conftest import FEW, SHORT, STEPS, Finished
from training.config import ScheduleConfig
from training.evaluation import evaluation_steps
from training.schedule import learning_rate

GOLDEN = Path(__file__).with_name("golden_losses.json")


def test_the_first_losses_are_the_golden_ones(finished: Finished) -> None:
    """After a wanted change of the numbers: UPDATE_GOLDEN=1, and say why in the change log."""
    losses = finished.reporter.curve("train/loss")
    assert len(losses) == STEPS
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(json.dumps({"train/loss": losses}, indent=2) + "\n")
    # CPUs differ in the last bits of a matrix product.
    assert losses == pytest.approx(json.loads(GOLDEN.read_text())["train/loss"], rel=1e-4)


def test_the_model_learns_both_sources(finished: Finished) -> None:
    for source in ("med", "wiki"):
        losses = finished.reporter.curve(f"heldout/{source}/loss")
        assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_zero_stages_agree(store: TokenStore, few: Finished, tmp_path: Path, stage: int) -> None:
    reference = few.reporter
    reporter, _ = run_tiny(store, tmp_path, **FEW, zero_stage=stage)
    assert reporter.curve("train/loss") == pytest.approx(reference.curve("train/loss"), rel=1e-5)
    assert reporter.curve("heldout/med/loss") == pytest.approx(reference.curve("heldout/med/loss"), rel=1e-5)
    if stage:  # at stage 0 in fp32 DeepSpeed does not tell
        assert reporter.curve("train/gradient_norm") == pytest.approx(reference.curve("train/gradient_norm"), rel=1e-3)


@pytest.mark.parametrize("changes", [{"micro_batch": 8}, {"micro_batch": 1}, {"activation_checkpointing": True}])
def test_how_the_batch_is_computed_does_not_matter(
    store: TokenStore, few: Finished, tmp_path: Path, changes: dict[str, Any]
) -> None:
    reporter, _ = run_tiny(store, tmp_path, **FEW, **changes)
    assert reporter.curve("train/loss") == pytest.approx(few.reporter.curve("train/loss"), rel=1e-5)


@pytest.mark.parametrize("step", [8, 16])
def test_resuming_is_bitwise_the_undisturbed_run(
    store: TokenStore, finished: Finished, tmp_path: Path, step: int
) -> None:
    checkpoint = finished.folder / "checkpoints" / f"step-{step}"
    reporter, outcome = run_tiny(store, tmp_path, resume=checkpoint, **SHORT)
    assert_same_tail(finished, reporter.records, outcome.model, step)


@pytest.mark.slow
def test_resuming_at_zero_3_is_bitwise_the_undisturbed_run(store: TokenStore, tmp_path: Path) -> None:
    whole = Finished(tmp_path / "whole", *run_tiny(store, tmp_path / "whole", **SHORT, zero_stage=3))
    checkpoint = whole.folder / "checkpoints" / "step-8"
    reporter, outcome = run_tiny(store, tmp_path / "again", resume=checkpoint, **SHORT, zero_stage=3)
    assert_same_tail(whole, reporter.records, outcome.model, 8)


def assert_same_tail(whole: Finished, records: list[dict[str, Any]], model: Path, step: int) -> None:
    """Records and final weights are equal to the last bit; those before ``step`` are told again from the checkpoint."""
    timed = TIMED

    def numbers(record: dict[str, Any]) -> tuple[int, int, dict[str, float]]:
        return record["step"], record["tokens"], {k: v for k, v in record["metrics"].items() if k not in timed}

    assert [numbers(record) for record in whole.reporter.records] == [numbers(record) for record in records]
    before = [record for record in records if record["step"] <= step]
    assert before == whole.reporter.records[: len(before)]  # times too: they were not measured again
    assert digest_file(model / "model.safetensors") == digest_file(whole.outcome.model / "model.safetensors")


def test_two_runs_are_bitwise_equal(store: TokenStore, few: Finished, tmp_path: Path) -> None:
    reporter, outcome = run_tiny(store, tmp_path, **FEW)
    assert reporter.curve("train/loss") == few.reporter.curve("train/loss")
    assert digest_file(outcome.model / "model.safetensors") == digest_file(few.outcome.model / "model.safetensors")


def test_another_seed_gives_another_run(store: TokenStore, finished: Finished, tmp_path: Path) -> None:
    reporter, _ = run_tiny(store, tmp_path, **FEW, seed=8)
    assert reporter.curve("train/loss")[0] != finished.reporter.curve("train/loss")[0]


@pytest.mark.slow
def test_bf16_runs_on_a_cpu_and_is_near_fp32(store: TokenStore, few: Finished, tmp_path: Path) -> None:
    reporter, outcome = run_tiny(store, tmp_path, **FEW, precision="bf16")
    assert reporter.curve("train/loss") == pytest.approx(few.reporter.curve("train/loss"), rel=1e-2)
    assert reporter.curve("train/loss") != few.reporter.curve("train/loss")
    assert outcome.model.is_dir()


def test_what_is_recorded_and_when(finished: Finished) -> None:
    records = finished.reporter.records
    measured = [record["step"] for record in records if "heldout/med/loss" in record["metrics"]]
    trained = [record for record in records if "train/loss" in record["metrics"]]
    assert measured == evaluation_steps(STEPS, 5)
    assert [record["step"] for record in trained] == list(range(1, STEPS + 1))
    assert all(record["tokens"] == record["step"] * 512 for record in records)
    assert all(a["time_ms"] <= b["time_ms"] for a, b in pairwise(records))
    assert set(trained[0]["metrics"]) == {
        "train/loss",
        "train/learning_rate",
        "train/gradient_norm",
        "train/tokens_per_second",
        "train/mfu",
        "train/data_wait",
        "train/share/med",
        "train/share/wiki",
    }
    for record in trained:
        metrics, sequences = record["metrics"], record["step"] * 8
        assert metrics["train/learning_rate"] == learning_rate(ScheduleConfig(), 3e-3, record["step"] - 1, STEPS)
        assert metrics["train/gradient_norm"] > 0
        assert abs(metrics["train/share/med"] - 0.6) * sequences < 1
        assert metrics["train/share/med"] + metrics["train/share/wiki"] == pytest.approx(1)
    assert (finished.outcome.steps, finished.outcome.tokens) == (STEPS, STEPS * 512)


def test_checkpoints_come_at_their_tokens(finished: Finished) -> None:
    assert sorted(folder.name for folder in (finished.folder / "checkpoints").iterdir()) == ["step-16", "step-8"]


def test_records_may_be_rarer(store: TokenStore, tmp_path: Path) -> None:
    reporter, _ = run_tiny(store, tmp_path, **FEW, log_steps=3)
    assert [record["step"] for record in reporter.records if "train/loss" in record["metrics"]] == [3, 5]


@pytest.mark.parametrize(("stage", "rate"), [(0, 1e30), (1, 1e9), pytest.param(3, 1e9, marks=pytest.mark.slow)])
def test_a_diverging_run_says_so_and_leaves_no_model(
    store: TokenStore, tmp_path: Path, stage: int, rate: float
) -> None:
    said = r"training\.learning_rate: (the loss is nan|the gradients are not finite) after step \d; lower the rate"
    with pytest.raises(UserError, match=said):
        run_tiny(store, tmp_path, **SHORT, zero_stage=stage, learning_rate=rate, log_steps=1 if stage == 0 else 10)
    assert not (tmp_path / "model").exists()
    assert not list((tmp_path / "checkpoints").iterdir())


def test_another_store_than_the_run_began_with_is_refused(store: TokenStore, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not the store this run began with"):
        run_tiny(store, tmp_path, **FEW, store_digest="0" * 32)


def test_the_process_group_stays(finished: Finished) -> None:
    assert torch.distributed.is_initialized()


@pytest.mark.parametrize("stage", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_small_gradient_buckets_change_nothing(
    store: TokenStore, few: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: int
) -> None:
    """Real models have far more parameters than a bucket holds; here a matrix alone is larger than one."""
    monkeypatch.setattr("training.engine._CPU_BUCKET", 1000)
    reporter, _ = run_tiny(store, tmp_path, **FEW, zero_stage=stage)
    assert reporter.curve("train/loss") == pytest.approx(few.reporter.curve("train/loss"), rel=1e-5)
