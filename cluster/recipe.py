"""The recipe: one YAML file, typed sections, ``section.field=value`` overrides, named runs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from ground.config import Section
from ground.errors import UserError
from pipelines.config import CurationConfig, MixtureConfig, Name, SourceConfig
from tracking.config import TrackingConfig
from training.config import EvaluationConfig, ModelConfig, TrainingConfig
from tuning.config import TuningConfig


class ClusterConfig(Section):
    """Where the work runs."""

    address: str | None = None
    """Ray cluster to connect to (``auto``, ``ray://host:port``); absent: ``RAY_ADDRESS``, else Ray on this machine."""
    cache_folder: str | None = None
    """Folder on every node's own disk for the pieces of the token store that it reads; absent: they are read from the shared
    store at every step, which is enough where that is fast."""
    cache_gb: Annotated[float, Field(gt=0)] = 100.0
    """Most that the cache of a node holds, in 10^9 bytes; 100 hold about 50 billion tokens of two bytes."""
    curate_on_gpu_nodes: bool = False
    """Curate on the CPUs of nodes with GPUs too, though there are others; for GPUs that would be idle meanwhile. By default they
    are left to training."""


class RunVariant(Section):
    """One of several runs that a recipe compares: the recipe's own sections with some fields changed."""

    description: str = ""
    """One sentence for the report."""
    seed: int | None = None
    """Another seed than the recipe's."""
    mixture: dict[str, Any] = Field(default_factory=dict)
    """Fields of ``mixture`` to replace."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Fields of ``training`` to replace."""


class Recipe(Section):
    """Everything Steady needs to know, in one file."""

    name: Name
    """Names the experiment and the default work folder: lower-case letters, digits, ``-`` and ``_``."""
    description: str = ""
    """What the recipe is for; shown in the report and in MLflow."""
    work: str | None = None
    """Folder for everything Steady writes; absent: ``.steady/<name>``. On a cluster, storage that all nodes share."""
    seed: int = 17
    """Chooses permutations and, for ``model.init: random``, the first weights."""
    sources: dict[Name, SourceConfig] = Field(min_length=1)
    """The corpora, by name."""
    curation: CurationConfig = CurationConfig()
    """From sources to a token store."""
    model: ModelConfig
    """The base model."""
    mixture: MixtureConfig = MixtureConfig()
    """Which tokens, how often, in which proportion."""
    training: TrainingConfig = TrainingConfig()
    """How the optimiser runs."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """What is measured on the way."""
    tuning: TuningConfig | None = None
    """What `steady tune` searches: the subset, the epochs, the shares and the learning rate of this recipe."""
    tracking: TrackingConfig = TrackingConfig()
    """Where it is recorded."""
    cluster: ClusterConfig = ClusterConfig()
    """Where it runs."""
    runs: dict[Name, RunVariant] = Field(default_factory=dict)
    """Runs to compare, by name; absent: one run named after the recipe."""

    @property
    def work_folder(self) -> Path:
        """``work`` or its default."""
        return Path(self.work or f".steady/{self.name}")

    @property
    def store_url(self) -> str | None:
        """``curation.store`` where it is in an object store."""
        return self.curation.store if self.curation.store and "://" in self.curation.store else None

    @property
    def store_folder(self) -> Path:
        """``curation.store`` or its default; where it is made before it goes to ``store_url``."""
        own = self.curation.store if self.curation.store and not self.store_url else None
        return Path(own) if own else self.work_folder / "store"

    def variants(self) -> dict[str, Recipe]:
        """The runs as complete recipes, by run name, in the file's order.

        Raises:
            UserError: a run replaces a field that does not exist or gives it a wrong value.
        """
        if not self.runs:
            return {self.name: self}
        whole = self.model_dump(mode="json", exclude={"runs"}, exclude_unset=True)
        variants = {}
        for name, run in self.runs.items():
            changed = dict(whole)
            changed["mixture"] = {**whole.get("mixture", {}), **run.mixture}
            changed["training"] = {**whole.get("training", {}), **run.training}
            changed["seed"] = self.seed if run.seed is None else run.seed
            changed["description"] = run.description
            variants[name] = _validate(changed, prefix=f"runs.{name}.")
        return variants


def trial_recipe(recipe: Recipe) -> Recipe:
    """The recipe as the trials of its search run it.

    Raises:
        UserError: ``tuning.trial`` replaces a field that does not exist or gives it a wrong value.
    """
    assert recipe.tuning is not None
    whole = recipe.model_dump(mode="json", exclude={"runs"}, exclude_unset=True)
    for section, changes in recipe.tuning.trial.model_dump().items():
        whole[section] = {**whole.get(section, {}), **changes}
    return _validate(whole, prefix="tuning.trial.")


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and check a recipe.

    Args:
        overrides: ``section.field=value``; the value is read as YAML, so lists and numbers work.

    Raises:
        UserError: the file is missing or no YAML mapping, an override has no ``=``, a field is unknown or wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            "RECIPE", f"there is no file {str(path)!r}", "give the path of a recipe, e.g. recipes/demo.yaml"
        )
    try:
        raw = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(str(path), f"is not valid YAML ({_one_line(error)})", "mend the line it names") from None
    if not isinstance(raw, dict):
        raise UserError(str(path), "is not a YAML mapping", "start from one of the files in recipes/")
    for override in overrides:
        _override(raw, override)
    recipe = _validate(raw)
    if recipe.work and "://" in recipe.work:
        raise UserError("work", f"{recipe.work!r} is a URL", "give a folder; on a cluster, one that all nodes share")
    if recipe.store_url and not recipe.cluster.cache_folder:
        problem = f"{recipe.store_url!r} is a URL"
        raise UserError("curation.store", problem, "set cluster.cache_folder, where nodes keep what they read of it")
    recipe.variants()
    if recipe.tuning is not None:
        trial_recipe(recipe)
    return recipe


def _override(raw: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise UserError(override, "is not of the form section.field=value", "write for example training.workers=2")
    *parents, last = key.split(".")
    target = raw
    for parent in parents:
        child = target.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UserError(key, f"{parent!r} is a value, not a section", "name a field of a section")
        target = child
    try:
        target[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(
            key, f"{text!r} is not a YAML value ({_one_line(error)})", "quote it for the shell and for YAML"
        ) from None


def _validate(raw: Mapping[str, Any], prefix: str = "") -> Recipe:
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        raise _first_problem(error, prefix) from None
    _check_shares(recipe, prefix)
    return recipe


def _check_shares(recipe: Recipe, prefix: str) -> None:
    shares = recipe.mixture.shares
    if shares is None:
        return
    usable = [name for name, source in recipe.sources.items() if source.role != "reference"]
    for name in shares:
        if name not in usable:
            raise UserError(
                f"{prefix}mixture.shares.{name}", "is no domain or general source", f"use {_choices(name, usable)}"
            )
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise UserError(f"{prefix}mixture.shares", f"sum to {sum(shares.values()):.6g}", "make them sum to 1")


def _first_problem(error: ValidationError, prefix: str) -> UserError:
    problem = error.errors(include_url=False)[0]
    field = prefix + ".".join(str(part) for part in problem["loc"] if part != "[key]")
    if problem["type"] == "extra_forbidden":
        section = _section_fields(problem["loc"][:-1])
        return UserError(field, "is no field of a recipe", f"use {_choices(str(problem['loc'][-1]), section)}")
    if problem["type"] == "missing":
        return UserError(field, "is missing", "add it to the recipe")
    message = problem["msg"].removeprefix("Value error, ")
    value = "" if isinstance(problem["input"], dict) else f"{problem['input']!r} is not valid: "
    return UserError(
        field or "recipe", f"{value}{message[:1].lower()}{message[1:]}", "see docs/recipe.md for what it may be"
    )


def _section_fields(location: Sequence[int | str]) -> list[str]:
    """Field names of the section at a location of the recipe."""
    model: Any = Recipe
    for part in location:
        fields = getattr(model, "model_fields", {})
        annotation = fields[part].annotation if part in fields else None
        candidates = [annotation, *getattr(annotation, "__args__", ())] if annotation else [model]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model)
    return list(model.model_fields)


def _choices(wrong: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(wrong, names, n=1)
    return f"{close[0]!r}" if close else f"one of {', '.join(names)}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def to_yaml(recipe: Recipe) -> str:
    """The resolved recipe, defaults included, as YAML that ``load_recipe`` reads back."""
    return yaml.safe_dump(recipe.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True)
