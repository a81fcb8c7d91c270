"""What other searches over the same store have found: evidence on the same surface, else recipes to begin with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ground.errors import UserError
from ground.files import canonical_json, write_atomic
from tuning.blend import Blend
from tuning.config import ObjectiveConfig
from tuning.history import History, Report, Result, Trial, result_of
from tuning.objective import tolerance
from tuning.space import Point, Space

Settings = Mapping[str, Any]
"""What a search keeps as ``search.json``: ``tuning``, ``budgets`` and the ``template`` of its trials."""
_FIRST = 2
"""Recipes taken over from a search on another surface: its best and the runner-up."""
_FIELD = "tuning.earlier"


@dataclass(frozen=True)
class Earlier:
    """Of all earlier searches."""

    trials: tuple[Trial, ...] = ()
    """On the same surface with the same settings, numbered from -1 down: as good as own trials for the laws."""
    points: tuple[Point, ...] = ()
    """Best recipes of the others, moved onto this surface."""


def read_earlier(folders: Sequence[Path], mine: Settings, space: Space) -> Earlier:
    """What the searches in these folders found.

    Args:
        folders: of searches (each with ``search.json`` and ``trials.jsonl``).
        mine: the settings of the search that wants to know.
        space: its surface.

    Raises:
        UserError: there is no usable search in a folder, or it read another store.
    """
    trials: list[Trial] = []
    points: list[Point] = []
    for folder in folders:
        theirs, results = _read(folder)
        store, own = theirs["template"]["store_digest"], mine["template"]["store_digest"]
        if store != own:
            raise UserError(_FIELD, f"{folder} searched the store {store}, this search reads {own}", "leave it out")
        found = [trial for trial in History(tuple(results)).trials if trial.reports]
        if comparable(theirs, mine):
            trials += found
        else:
            points += [_moved(space, trial.point) for trial in _best(found, theirs, folder)]
    numbered = tuple(
        Trial(-k, t.point, t.seed, t.reports, t.failed, t.diverged, running=False)
        for k, t in enumerate(trials, start=1)
    )
    return Earlier(numbered, tuple(dict.fromkeys(points)))


def comparable(theirs: Settings, mine: Settings) -> bool:
    """Whether a trial of one search would have given the same in the other: all but budgets, ranges and rungs is equal."""
    return _essence(theirs) == _essence(mine)


def save_earlier(path: Path, earlier: Earlier) -> None:
    """Keep what is known, so that a search goes on with the same whatever became of the others."""
    content = {
        "trials": [
            asdict(t) | {"reports": [{"tokens": r.tokens, "metrics": dict(r.metrics)} for r in t.reports]}
            for t in earlier.trials
        ],
        "points": [asdict(point) for point in earlier.points],
    }
    write_atomic(path, canonical_json(content))


def load_earlier(path: Path) -> Earlier:
    """The inverse of ``save_earlier``; nothing where there is no file."""
    if not path.is_file():
        return Earlier()
    content = json.loads(path.read_text())
    trials = [
        Trial(
            **{**row, "point": Point(**row["point"]), "reports": tuple(Report(**report) for report in row["reports"])}
        )
        for row in content["trials"]
    ]
    return Earlier(tuple(trials), tuple(Point(**row) for row in content["points"]))


def _read(folder: Path) -> tuple[Settings, list[Result]]:
    settings, trials = folder / "search.json", folder / "trials.jsonl"
    if not settings.is_file() or not trials.is_file():
        raise UserError(_FIELD, f"there is no search in {folder}", "name the work folder of a search, or leave it out")
    about = json.loads(settings.read_text())
    if "proportions" not in about or not (folder / "base.json").is_file():
        raise UserError(
            _FIELD, f"{folder} is of another version, or ended before its base was measured", "leave it out"
        )
    lines = trials.read_text().splitlines(keepends=True)
    # It may still be running: a line without an end is not written yet.
    records = [json.loads(line) for line in lines if line.endswith("\n")]
    return about, [result_of(row) for row in records if row["kind"] == "result"]


def _essence(settings: Settings) -> dict[str, Any]:
    """What a trial's numbers depend on besides its point and its seed."""
    template, tuning = settings["template"], settings["tuning"]
    searched = tuning["space"]["learning_rate"] is not None
    training = {k: v for k, v in template["training"].items() if not (searched and k == "learning_rate")}
    mixture = {k: v for k, v in template["mixture"].items() if k not in ("subset_tokens", "epochs", "shares")}
    return {
        **{k: v for k, v in template.items() if k not in ("training", "mixture", "seed")},
        "training": training,
        "mixture": mixture,
        "proportions": settings["proportions"],
        "run": settings["budgets"]["run"],
        "searched_rate": searched,
        "metrics": [tuning["objective"][name] for name in ("domain_metric", "general_metric")],
    }


def _best(trials: Sequence[Trial], settings: Settings, folder: Path) -> list[Trial]:
    """The best finished trials by their own search's objective, as observed."""
    config = ObjectiveConfig(**settings["tuning"]["objective"])
    base = json.loads((folder / "base.json").read_text())["measured"]
    blend = Blend(**settings["proportions"])
    scalar = tolerance(config, blend.metrics(base, config)[config.general_metric])

    def value(trial: Trial) -> float:
        last = trial.reports[-1].metrics
        return float(scalar.of(np.asarray(last[config.domain_metric]), np.asarray(last[config.general_metric])))

    return sorted((t for t in trials if t.finished and not t.failed), key=value)[:_FIRST]


def _moved(space: Space, point: Point) -> Point:
    """The recipe here; a rate that the other did not search is the middle of this one's range."""
    rate = None
    if space.learning_rate:
        rate = point.learning_rate or float(np.sqrt(space.learning_rate[0] * space.learning_rate[1]))
    return space.project(space.limits.run_tokens, point.epochs, point.share, rate)
