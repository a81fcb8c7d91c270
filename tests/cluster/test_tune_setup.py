"""Impossible searches are refused in a second, with the arithmetic, before anything is started or written."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.recipe import load_recipe
from cluster.tune_setup import set_up
from tests.cluster.test_bad_input import assert_one_line
from tests.helpers.recipes import run_steady, small_recipe
from tuning.base import Base, save_base

TUNING = {
    "budget": {"value": 60_000},
    "run_budget": {"value": 12_800},
    "space": {"min_steps": 10, "learning_rate": {"low": 1.0e-3, "high": 1.0e-2}},
    "objective": {"epsilon": 0.3},
}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("tuning.budget.value=20000", ("tuning.budget", "20,000", "one run of 12,800", "25,600", "raise it")),
        ("tuning.run_budget.value=100", ("tuning.run_budget", "one step of 512")),
        ("tuning.space.min_steps=99", ("tuning.space", "12,800 tokens < 99 steps x 512")),
        (
            "tuning.run_budget={value: 2.0e+6} tuning.budget.value=9.0e+6",
            ("tuning.space", "1,999,872", "20,000", "epochs"),
        ),
        ("mixture.max_repetition=1 tuning.space.epochs={low: 4, high: 8}", ("no feasible point", "epochs")),
        ("tuning.objective.general_metric=accuracy", ("tuning.objective.general_metric", "heldout/wiki/loss")),
        ("mixture.shares={med: 1.0}", ("tuning", "no general source")),
        ("training.accelerator=gpu", ("training.accelerator", "GPUs")),
        ("tuning.budget.unit=gpu_hours", ("tuning.budget", "no throughput was measured")),
        ("tuning.rungs=[0.5]", ("tuning", "rungs", "to 1")),
        ("tuning.space.share={low: 0.9, high: 0.2}", ("tuning.space.share", "low 0.9 is above high 0.2")),
        ("tuning.sampler=grid", ("tuning.sampler", "laws")),
        ("tuning.trial.training.worker=1", ("tuning.trial.training.worker", "'workers'")),
    ],
)
def test_an_impossible_search(
    override: str,
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = small_recipe(tmp_path, tuning=TUNING)
    overrides = [part.strip() for part in override.replace(" tuning.", "\ntuning.").splitlines()]
    ran = run_steady(monkeypatch, capsys, "tune", str(path), *overrides)
    assert_one_line(ran, *words)
    assert not (tmp_path / "work" / "search").exists()


def test_a_tolerance_below_the_bases_own_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once the base was measured this needs no Ray."""
    path = small_recipe(tmp_path, tuning=TUNING)
    setup = set_up(load_recipe(path), gpus=0, gpu_memory=None)
    base = Base({"heldout/med/loss": 5.0, "heldout/wiki/loss": 5.0}, {"med": 0.2, "wiki": 0.4})
    save_base(setup.folder / "base.json", setup.template, base)
    ran = run_steady(monkeypatch, capsys, "tune", str(path))
    assert_one_line(ran, "tuning.objective.epsilon", "0.3, below 0.4", "general_loss")


def test_what_needs_a_search_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small_recipe(tmp_path)
    assert_one_line(run_steady(monkeypatch, capsys, "tune", str(path)), "tuning", "is missing", "run_budget")
    path = small_recipe(tmp_path, tuning=TUNING)
    assert_one_line(run_steady(monkeypatch, capsys, "tune", str(path), "--resume"), "--resume", "no search")
    assert_one_line(run_steady(monkeypatch, capsys, "tune", str(path), "--status"), "no search")


def test_a_dry_run_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small_recipe(tmp_path, tuning=TUNING)
    ran = run_steady(monkeypatch, capsys, "tune", str(path), "--dry-run")
    assert ran.code == 0, ran.err
    assert "12.8 k tokens" in ran.out
    assert "4.69 runs" in ran.out
    assert not (tmp_path / "work" / "search").exists()


def test_amounts_in_flops_become_tokens(tmp_path: Path) -> None:
    path = small_recipe(tmp_path, tuning=TUNING)
    per_token = set_up(load_recipe(path), gpus=0, gpu_memory=None).planned.estimate
    flops = per_token.flops / per_token.tokens
    over = [f"tuning.budget={{value: {60_000 * flops}, unit: flops}}"]
    setup = set_up(load_recipe(path, over), gpus=0, gpu_memory=None)
    assert setup.budgets.whole == pytest.approx(60_000)


def test_trials_may_be_smaller_than_the_run_they_stand_for(tmp_path: Path) -> None:
    over = [
        "training.workers=2",
        "tuning.trial={training: {workers: 1, global_batch_tokens: 256}, evaluation: {sequences: 2}}",
    ]
    setup = set_up(load_recipe(small_recipe(tmp_path, tuning=TUNING), over), gpus=0, gpu_memory=None)
    assert (setup.template.training.workers, setup.template.evaluation.sequences) == (1, 2)
    assert setup.space.limits.step_tokens == 256
    assert setup.recipe.training.workers == 2


def test_trials_keep_one_checkpoint_and_measure_no_layers(tmp_path: Path) -> None:
    setup = set_up(load_recipe(small_recipe(tmp_path, tuning=TUNING)), gpus=0, gpu_memory=None)
    training = setup.template.training
    assert (training.keep_checkpoints, training.checkpoint_tokens, training.accelerator) == (1, 3200, "cpu")
    assert not setup.template.evaluation.layer_updates
    assert Path(setup.template.folder) == (tmp_path / "work" / "search").resolve()
