"""``steady mix``: a recipe's run as files, and its mistakes in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cluster.mix import choose_run, mix_recipe
from cluster.recipe import load_recipe
from ground.errors import UserError
from pipelines.mix import read_mixture
from pipelines.plan import Plan
from pipelines.store import TokenStore
from tests.helpers.recipes import small_recipe
from training.feed import Feed

RUNS = {"best": {"mixture": {"select": "quality"}}, "random": {"mixture": {"select": "random"}, "seed": 5}}


def test_the_only_run_needs_no_name(tmp_path: Path) -> None:
    recipe = load_recipe(small_recipe(tmp_path))
    assert choose_run(recipe, None) == choose_run(recipe, "small") == recipe


def test_one_of_several_runs_is_named(tmp_path: Path) -> None:
    recipe = load_recipe(small_recipe(tmp_path, runs=RUNS))
    assert choose_run(recipe, "random").seed == 5
    with pytest.raises(UserError, match=r"^--run: is absent .*; use one of best, random"):
        choose_run(recipe, None)
    with pytest.raises(UserError, match=r"^--run: 'bets' is no run of this recipe; use one of best, random"):
        choose_run(recipe, "bets")


def test_no_store_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run `steady curate`"):
        mix_recipe(load_recipe(small_recipe(tmp_path, with_store=False)), tmp_path / "to", "parquet")
    assert not (tmp_path / "to").exists()


@pytest.mark.slow
def test_a_run_is_written_as_it_would_be_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = load_recipe(small_recipe(tmp_path, runs=RUNS))
    manifest = mix_recipe(recipe, tmp_path / "to", "parquet", run="random", from_step=2, steps=5)
    assert "steps 2 to 6 of 12" in capsys.readouterr().out
    assert read_mixture(tmp_path / "to", verify=True) == manifest
    store, variant = TokenStore.open(recipe.store_folder), recipe.variants()["random"]
    plan = Plan(store.sizes, variant.mixture, sequence_length=64, batch_sequences=8, seed=5)
    feed = Feed(store, plan, rank=0, world=1, micro_batch=8)
    expected = np.concatenate([part.tokens.numpy() for step in range(2, 7) for part in feed.micro_batches(step)])
    rows = pq.read_table(tmp_path / "to" / "part-00000.parquet").column("tokens").to_pylist()
    assert (np.array(rows) == expected).all()
