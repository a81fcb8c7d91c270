"""best.yaml is a recipe that trains what the search found, and says why."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.recipe import load_recipe
from ground.errors import UserError
from pipelines.plan import Plan, SourceSize
from tests.helpers.searches import PARETO, RECIPE, Played, play
from tracking.search_data import SearchData
from tracking.search_text import chance
from tuning.best_recipe import best_recipe, shares_of, written_epochs


@pytest.fixture(scope="module")
def found() -> Played:
    return play(runs=12)


@pytest.fixture(scope="module")
def data(found: Played) -> SearchData:
    return found.data()


def test_it_loads_and_trains_the_best_trial_s_tokens(tmp_path: Path, data: SearchData) -> None:
    path = tmp_path / "best.yaml"
    path.write_text(best_recipe(RECIPE, data))
    recipe = load_recipe(path)
    best = data.best
    assert best is not None
    assert recipe.runs == {}
    assert recipe.mixture.subset_tokens == best.knobs.subset_tokens
    assert recipe.mixture.shares == best.shares
    assert recipe.mixture.redraw == "epoch"
    assert recipe.training.learning_rate == pytest.approx(best.knobs.learning_rate, rel=1e-5)
    sizes = {
        name: SourceSize(role=source.role, tokens=data.run_tokens)
        for name, source in recipe.sources.items()
        if source.role != "reference"
    }
    plan = Plan(
        sizes,
        recipe.mixture,
        sequence_length=recipe.training.sequence_length,
        batch_sequences=recipe.training.global_batch_tokens // recipe.training.sequence_length,
        seed=recipe.seed,
    )
    assert plan.total_tokens == pytest.approx(best.knobs.tokens, abs=data.step_tokens / 2)
    assert plan.total_tokens == data.run_tokens


def test_every_knob_says_why(data: SearchData) -> None:
    text = best_recipe(RECIPE, data)
    lines = text.splitlines()
    assert max(len(line) for line in lines if line.lstrip().startswith("#")) <= 112
    for field in ("subset_tokens", "epochs", "shares", "learning_rate"):
        at = next(i for i, line in enumerate(lines) if line.startswith(f"  {field}:"))
        assert lines[at - 1].startswith("  # "), field
    best = data.best
    assert best is not None
    flat = " ".join(line.lstrip("# ") for line in lines)
    assert f"{best.domain.mean:.4f} +- {best.domain.sd:.4f} nats per token, the base model has 3.0000" in flat
    assert f"Probability that no other finished recipe is better: {chance(best.probability)}." in flat
    for fit in data.fits:
        assert fit.verdict in flat
    assert all(ord(sign) < 128 for line in lines if "#" in line for sign in line)


def test_what_was_not_searched_stays(found: Played, data: SearchData) -> None:
    assert data.best is not None
    kept = replace(data, best=replace(data.best, knobs=replace(data.best.knobs, learning_rate=None)))
    ranges = {name: ends for name, ends in data.ranges.items() if name != "learning_rate"}
    raw = yaml.safe_load(best_recipe(RECIPE, replace(kept, ranges=ranges)))
    assert raw["training"] == RECIPE["training"]
    assert "tuning" not in raw and "runs" not in raw
    assert raw["sources"] == RECIPE["sources"]
    assert "Not searched: the recipe's own." in best_recipe(RECIPE, replace(kept, ranges=ranges))
    bare = {name: value for name, value in RECIPE.items() if name not in ("mixture", "training")}
    again = yaml.safe_load(best_recipe(bare, data))
    assert again["mixture"]["shares"] == data.best.shares and set(again["training"]) == {"learning_rate"}


def test_of_a_front_it_is_the_balanced_one() -> None:
    told = play(objective=PARETO).data()
    text = best_recipe(RECIPE, told)
    assert "prefers no point of it" in text and "Probability that no other" not in text


def test_nothing_finished_nothing_written() -> None:
    with pytest.raises(UserError, match="no trial has finished"):
        best_recipe(RECIPE, play(jobs=3).data())


@given(
    st.floats(0.05, 1),
    st.lists(st.floats(0.01, 100), min_size=1, max_size=5),
    st.lists(st.floats(0.01, 100), min_size=1, max_size=5),
)
def test_shares_sum_to_one_in_proportion(share: float, domain: list[float], general: list[float]) -> None:
    shares = shares_of(share, {f"d{i}": v for i, v in enumerate(domain)}, {f"g{i}": v for i, v in enumerate(general)})
    assert sum(shares.values()) == pytest.approx(1, abs=1e-12)
    assert all(0 < value <= 1 for value in shares.values())
    assert sum(value for name, value in shares.items() if name[0] == "d") == pytest.approx(share, abs=1e-8)
    if len(domain) > 1 and shares.get("d0") and shares.get("d1"):
        assert shares["d0"] / shares["d1"] == pytest.approx(domain[0] / domain[1], rel=1e-3, abs=1e-4)


def test_a_part_that_nothing_fills_is_refused() -> None:
    assert shares_of(1, {"medical": 2}, {}) == {"medical": 1}
    with pytest.raises(UserError, match="general text, of which the recipe has no source"):
        shares_of(0.8, {"medical": 1}, {})


@settings(deadline=None)
@given(st.integers(1, 10**6), st.floats(1, 16))
def test_epochs_are_written_short_and_train_the_same(pool: int, epochs: float) -> None:
    data = small()
    best = data.best
    assert best is not None
    exact = (int(pool * epochs) + 1e-6) / pool
    knobs = replace(best.knobs, subset_tokens=pool * data.sequence_length, epochs=exact)
    short = written_epochs(data, replace(best, knobs=knobs))
    assert int(pool * short) == int(pool * exact)
    assert len(repr(short)) <= len(repr(exact))


@cache
def small() -> SearchData:
    """A small search, once for all examples."""
    return play(runs=1.6, initial=4).data()
