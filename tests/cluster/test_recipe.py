"""Reading, overriding and checking recipes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cluster.recipe import load_recipe, to_yaml
from ground.errors import UserError
from tests.helpers.recipes import small_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_load_and_survive_a_round_trip(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(recipe))
    assert load_recipe(again) == recipe


def test_overrides_are_yaml_values_of_dotted_fields(tmp_path: Path) -> None:
    recipe = load_recipe(
        small_recipe(tmp_path, with_store=False),
        [
            "training.workers=2",
            "mixture.shares={med: 0.5, wiki: 0.5}",
            "training.schedule.kind=wsd",
            "evaluation.sources=[med]",
        ],
    )
    assert recipe.training.workers == 2
    assert recipe.mixture.shares == {"med": 0.5, "wiki": 0.5}
    assert recipe.training.schedule.kind == "wsd"
    assert recipe.evaluation.sources == ("med",)


def test_runs_change_only_what_they_name(tmp_path: Path) -> None:
    runs = {
        "once": {"mixture": {"epochs": 2}},
        "slow": {"training": {"learning_rate": 1e-4}, "seed": 5, "description": "A low rate."},
    }
    variants = load_recipe(small_recipe(tmp_path, with_store=False, runs=runs)).variants()
    assert list(variants) == ["once", "slow"]
    assert variants["once"].mixture.epochs == 2
    assert variants["once"].mixture.subset_tokens == 6400
    assert variants["once"].training.learning_rate == 3e-3
    assert variants["slow"].training.learning_rate == 1e-4
    assert (variants["slow"].seed, variants["slow"].description) == (5, "A low rate.")


def test_a_recipe_is_frozen(tmp_path: Path) -> None:
    recipe = load_recipe(small_recipe(tmp_path, with_store=False))
    with pytest.raises(ValueError, match="frozen"):
        recipe.training.workers = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("overrides", "field", "words"),
    [
        (["training.worker=2"], "training.worker", "'workers'"),
        (["trainin.workers=2"], "trainin", "'training'"),
        (["runs.a.mixture.epoch=2"], "runs.a.mixture.epoch", "'epochs'"),
        (["mixture.shares={med: 0.5, wiki: 0.4}"], "mixture.shares", "sum to 0.9"),
        (["mixture.shares={med: 0.5, news: 0.5}"], "mixture.shares.news", "med, wiki"),
        (["mixture.shares={med: 0.5, ref: 0.5}"], "mixture.shares.ref", "no domain or general source"),
        (["training.zero_stage=4"], "training.zero_stage", "4 is not valid"),
        (["training.global_batch_tokens=500"], "training", "no multiple"),
        (["training.workers=3"], "training", "do not divide"),
        (["model.architecture=null"], "model", "needs model.architecture"),
        (["work=s3://bucket/x"], "work", "give a folder"),
        (["training.workers"], "training.workers", "not of the form"),
        (["name.x=1"], "name.x", "not a section"),
        (["mixture.epochs=[1"], "mixture.epochs", "not a YAML value"),
        (["sources.med.role=ref"], "sources.med.role", "'ref' is not valid"),
        (["sources.Med={role: domain, paths: [x]}"], "sources.Med", "not valid"),
    ],
)
def test_a_mistake_names_its_field_and_the_mend(tmp_path: Path, overrides: list[str], field: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(small_recipe(tmp_path, with_store=False), overrides)
    assert caught.value.field == field
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(UserError, match="not a YAML mapping"):
        load_recipe(tmp_path / "list.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1\nb: 2\n")
    with pytest.raises(UserError, match="not valid YAML"):
        load_recipe(tmp_path / "bad.yaml")
    (tmp_path / "missing.yaml").write_text(yaml.safe_dump({"name": "x"}))
    with pytest.raises(UserError, match="sources: is missing"):
        load_recipe(tmp_path / "missing.yaml")
