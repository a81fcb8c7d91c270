"""What a search takes over from earlier ones."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ground.errors import UserError
from tests.helpers.searches import Played, play
from tuning.config import ObjectiveConfig
from tuning.driver import Driver, advance
from tuning.earlier import comparable, load_earlier, read_earlier, save_earlier
from tuning.history import History, Job, Report, Trial
from tuning.landscapes import BASE, LANDSCAPES, landscape_space
from tuning.plain import PlainPlanner
from tuning.propose import Planner
from tuning.simulate import observe, optimum, regrets, search, settings
from tuning.space import infeasible

SPACE = landscape_space()
RUN = SPACE.limits.run_tokens
CROSSING = next(i for i, one in enumerate(LANDSCAPES) if one.name == "crossing")
METRICS = ("domain_loss", "general_loss")


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Played]:
    """The folder of a search of sixteen runs."""
    folder = tmp_path_factory.mktemp("before")
    played = play(folder, runs=16, landscape=CROSSING)
    (folder / "search.json").write_text(json.dumps(about(played)))
    (folder / "base.json").write_text(json.dumps({"measured": dict(zip(METRICS, BASE, strict=True))}))
    return folder, played


def about(played: Played, **template: Any) -> dict[str, Any]:
    """The settings that a search leaves behind, as far as they matter here."""
    config = played.setting.config.model_dump(mode="json")
    config["space"]["learning_rate"] = {"low": 1e-5, "high": 1e-3} if SPACE.learning_rate else None
    return {
        "tuning": config,
        "budgets": {"whole": 16.0 * RUN, "run": RUN},
        "proportions": {"domain": {"medical": 1.0}, "general": {"wikipedia": 0.75, "code": 0.25}},
        "template": {
            "store_digest": "aa",
            "seed": 1,
            "model": {"base": "b1"},
            "training": {"learning_rate": 3e-4, "micro_batch": 2},
            "mixture": {"epochs": 4.0, "subset_tokens": 100, "shares": {"medical": 0.5}, "redraw": "epoch"},
            **template,
        },
    }


def test_the_same_surface_gives_evidence(before: tuple[Path, Played]) -> None:
    folder, played = before
    known = read_earlier([folder], about(played), SPACE)
    theirs = [trial for trial in played.driver.history().trials if trial.reports]
    assert [trial.number for trial in known.trials] == [-k for k in range(1, len(theirs) + 1)]
    assert [(t.point, t.seed, t.reports, t.failed) for t in known.trials] == [
        (t.point, t.seed, t.reports, t.failed) for t in theirs
    ]
    assert not known.points
    assert len(read_earlier([folder, folder], about(played), SPACE).trials) == 2 * len(theirs)


def test_another_run_or_model_gives_recipes_to_begin_with(before: tuple[Path, Played]) -> None:
    folder, played = before
    mine = about(played, model={"base": "b2"})
    assert not comparable(about(played), mine)
    small = replace(SPACE, limits=replace(SPACE.limits, run_tokens=RUN // 2))
    known = read_earlier([folder], mine, small)
    assert not known.trials
    assert 1 <= len(known.points) <= 2
    assert not [infeasible(small, point) for point in known.points if infeasible(small, point)]
    assert [round(point.tokens) for point in known.points] == [RUN // 2] * len(known.points)
    best = min(played.driver.history().finished, key=value)
    assert known.points[0].share == pytest.approx(best.point.share)
    for planner in (Planner, PlainPlanner):
        config = settings(9 * RUN, small, 3)
        decided = planner(small, config, BASE[1], known.points).decide(History(), 0, 9 * RUN)
        assert isinstance(decided.action, Job)
        assert decided.action.point == known.points[0]


def value(trial: Trial) -> float:
    last = trial.reports[-1].metrics
    return last["domain_loss"] + 2 * max(0.0, last["general_loss"] - BASE[1] - ObjectiveConfig().epsilon)


@pytest.mark.parametrize(
    ("path", "changed"),
    [
        (("budgets", "run"), 7),
        (("template", "training", "micro_batch"), 4),
        (("template", "mixture", "redraw"), "once"),
        (("proportions", "general"), {"wikipedia": 1.0}),
        (("tuning", "objective", "domain_metric"), "heldout/medical/loss"),
    ],
)
def test_what_makes_trials_incomparable(before: tuple[Path, Played], path: tuple[str, ...], changed: Any) -> None:
    mine = about(before[1])
    at = mine
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = changed
    assert not comparable(about(before[1]), mine)


def test_budgets_ranges_and_rungs_do_not_matter(before: tuple[Path, Played]) -> None:
    mine = copy.deepcopy(about(before[1]))
    mine["budgets"]["whole"] = 1.0
    mine["tuning"]["rungs"] = [1.0]
    mine["tuning"]["space"]["epochs"] = {"low": 2.0, "high": 3.0}
    mine["template"]["mixture"]["subset_tokens"] = 7
    mine["template"]["seed"] = 2
    assert comparable(about(before[1]), mine)


def test_no_search_and_another_store_are_refused(before: tuple[Path, Played], tmp_path: Path) -> None:
    folder, played = before
    with pytest.raises(UserError, match=r"tuning.earlier: there is no search in"):
        read_earlier([tmp_path], about(played), SPACE)
    with pytest.raises(UserError, match="searched the store aa, this search reads bb"):
        read_earlier([folder], about(played, store_digest="bb"), SPACE)


def test_more_recipes_than_first_trials_are_cut(before: tuple[Path, Played]) -> None:
    folder, played = before
    known = read_earlier([folder], about(played, model={"base": "b2"}), SPACE)
    config = settings(20 * RUN, SPACE, 3, concurrent=1).model_copy(update={"initial": 4})
    planner = Planner(SPACE, config, BASE[1], known.points * 4)
    jobs: list[Job] = []
    results = []
    for number in range(6):
        action = planner.decide(History(tuple(results)), number, 20 * RUN).action
        assert isinstance(action, Job)
        jobs.append(action)
        results.append(observe(SPACE, LANDSCAPES[CROSSING], action, 3))
    assert [job.reason == "first design" for job in jobs] == [True] * 4 + [False] * 2


def test_a_search_of_another_version_is_refused(before: tuple[Path, Played], tmp_path: Path) -> None:
    folder, played = before
    (tmp_path / "trials.jsonl").write_bytes((folder / "trials.jsonl").read_bytes())
    (tmp_path / "search.json").write_text((folder / "search.json").read_text())
    with pytest.raises(UserError, match="ended before its base was measured"):
        read_earlier([tmp_path], about(played), SPACE)


def test_a_diverged_trial_is_kept_too(before: tuple[Path, Played], tmp_path: Path) -> None:
    folder, played = before
    known = read_earlier([folder], about(played), SPACE)
    lost = replace(known.trials[0], diverged=True, failed=True,
                   reports=(Report(1.0, {"domain_loss": float("inf"), "general_loss": float("inf")}),))  # fmt: skip
    save_earlier(tmp_path / "earlier.json", replace(known, trials=(lost,)))
    assert load_earlier(tmp_path / "earlier.json").trials == (lost,)


def test_a_running_search_is_read_up_to_its_last_whole_line(before: tuple[Path, Played], tmp_path: Path) -> None:
    folder, played = before
    for name in ("search.json", "base.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    whole = (folder / "trials.jsonl").read_bytes()
    (tmp_path / "trials.jsonl").write_bytes(whole[:-20])
    known, all_known = (read_earlier([one], about(played), SPACE) for one in (tmp_path, folder))
    reports = [sum(len(trial.reports) for trial in one.trials) for one in (known, all_known)]
    assert reports[0] == reports[1] - 1


def test_what_is_kept_comes_back(before: tuple[Path, Played], tmp_path: Path) -> None:
    folder, played = before
    known = read_earlier([folder], about(played), SPACE)
    first = read_earlier([folder], about(played, model={"base": "b2"}), SPACE)
    both = replace(known, points=first.points)
    save_earlier(tmp_path / "earlier.json", both)
    assert load_earlier(tmp_path / "earlier.json") == both
    assert load_earlier(tmp_path / "none.json").trials == ()


@pytest.mark.parametrize("sampler", ["laws", "tpe"])
def test_a_search_goes_on_where_the_other_ended(before: tuple[Path, Played], sampler: str) -> None:
    """No first design again: the first decision rests on what is known."""
    folder, played = before
    known = read_earlier([folder], about(played), SPACE)
    config = settings(6 * RUN, SPACE, 11, concurrent=1).model_copy(update={"sampler": sampler, "initial": 4})
    planner = (Planner if sampler == "laws" else PlainPlanner)(SPACE, config, BASE[1])
    driver = Driver(None, 6 * RUN, SPACE.limits.step_tokens, 1, known.trials)
    advance(driver, planner.decide)
    job = driver.unfinished()[0]
    assert job.trial == 0
    assert (job.reason != "first design") == (sampler == "laws")
    driver.end(observe(SPACE, LANDSCAPES[CROSSING], job, 11))
    assert driver.history().trials[0].number == 0  # its own trials alone
    assert driver.history().earlier == known.trials


@pytest.mark.slow
def test_what_is_known_is_worth_its_budget(before: tuple[Path, Played]) -> None:
    """A search of five runs that knows the sixteen of another one ends nearer to the optimum than one that knows nothing."""
    folder, played = before
    known = read_earlier([folder], about(played), SPACE)
    best = optimum(SPACE, LANDSCAPES[CROSSING])
    warm, cold = [], []
    for seed in range(6):
        for into, earlier in ((warm, known.trials), (cold, ())):
            trace = search(SPACE, LANDSCAPES[CROSSING], 5 * RUN, 100 + seed, earlier=earlier)
            into.append(regrets(SPACE, LANDSCAPES[CROSSING], best, trace)[-1][1])
    assert sum(warm) < 0.5 * sum(cold)
    assert sorted(warm)[3] < 0.01
