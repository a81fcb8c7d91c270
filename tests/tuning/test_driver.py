"""A search killed anywhere goes on to the same end, whatever job ends first; the ledger says what was trained."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tuning.config import ObjectiveConfig
from tuning.driver import Driver, Wait, advance
from tuning.history import Job, Result
from tuning.journal import Journal
from tuning.landscapes import BASE, LANDSCAPES, landscape_space
from tuning.plain import PlainPlanner
from tuning.predictions import foretell
from tuning.propose import Planner, Stop
from tuning.simulate import observe, settings

SPACE = landscape_space()
RUN = SPACE.limits.run_tokens
BUDGET = 7 * RUN
CONFIG = settings(BUDGET, SPACE, 3, concurrent=3).model_copy(update={"sampler": "random", "initial": 4})


class Killed(BaseException):
    """The process is gone: nobody may catch it."""


def outcome(job: Job) -> Result:
    """Every seventh job fails after half its tokens."""
    result = observe(SPACE, LANDSCAPES[1], job, 3)
    if job.number % 7 != 6:
        return result
    middle = job.start + (job.end - job.start) // 2
    return Result(job, (type(result.reports[0])(middle, result.reports[0].metrics),), "failed")


def play(driver: Driver, rng: np.random.Generator) -> None:
    """To the end, jobs ending in random order; check the account at every turn."""
    planner = PlainPlanner(SPACE, CONFIG, BASE[1])
    while True:
        made = advance(driver, planner.decide)
        state = driver.ledger.state()
        assert state.settled + state.reserved <= BUDGET
        if not isinstance(made, Wait) and isinstance(made.action, Stop):
            break
        waiting = driver.unfinished()
        if waiting and (isinstance(made, Wait) or rng.random() < 0.3):
            driver.end(outcome(waiting[int(rng.integers(len(waiting)))]), 2.0)
    assert driver.unfinished() == []


def account(driver: Driver) -> dict[str, float]:
    return driver.ledger.charged()


@pytest.fixture(scope="module")
def undisturbed() -> Driver:
    driver = Driver(None, BUDGET, SPACE.limits.step_tokens, 3)
    play(driver, np.random.default_rng(0))
    return driver


def test_the_search_does_not_depend_on_which_job_ends_first(undisturbed: Driver) -> None:
    other = Driver(None, BUDGET, SPACE.limits.step_tokens, 3)
    play(other, np.random.default_rng(1))
    assert other.results == undisturbed.results
    assert account(other) == account(undisturbed)
    assert len(other.results) > 15
    assert sum(result.state == "failed" for result in other.results.values()) >= 2
    assert other.ledger.state().reserved == 0


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_writes_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Driver, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    write = Journal._write
    left = 0

    def mortal(journal: Journal, line: bytes) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            before = bool(rng.random() < 0.5)
            if before and journal._path is not None:
                with open(journal._path, "ab") as file:
                    file.write(line[: len(line) // 2])
            else:
                write(journal, line)
            raise Killed
        write(journal, line)

    monkeypatch.setattr(Journal, "_write", mortal)
    kills = 0
    while True:
        left = int(rng.integers(3, 25))
        try:
            driver = Driver(tmp_path, BUDGET, SPACE.limits.step_tokens, 3)
            play(driver, rng)
            break
        except Killed:
            kills += 1
    assert kills >= 2
    left = -1
    again = Driver(tmp_path, BUDGET, SPACE.limits.step_tokens, 3)
    assert again.results == undisturbed.results
    assert account(again) == account(undisturbed)
    assert again.ledger.state().reserved == 0


def test_tokens_trained_twice_are_charged_until_the_budget_ends(tmp_path: Path) -> None:
    driver = Driver(tmp_path, BUDGET, SPACE.limits.step_tokens, 3)
    planner = PlainPlanner(SPACE, CONFIG, BASE[1])
    made = advance(driver, planner.decide)
    assert not isinstance(made, Wait)
    job = made.action
    assert isinstance(job, Job)
    assert driver.redo(job, 0)
    assert driver.redo(job, RUN / 8)
    assert driver.redo(job, RUN / 8)  # what it trained again in all, charged already
    assert driver.redo(job, RUN / 4)
    driver = Driver(tmp_path, BUDGET, SPACE.limits.step_tokens, 3)
    assert driver.ledger.state().settled == RUN / 4
    assert driver.unfinished() == [job]
    room = driver.room()
    assert room is not None
    assert room.tokens == BUDGET - RUN / 4 - (job.end - job.start) == driver.ledger.state().left
    assert not driver.redo(job, BUDGET)
    driver.end(outcome(job))
    driver.end(outcome(job))
    assert driver.ledger.state().settled == RUN / 4 + job.end - job.start


def test_predictions_are_kept_beside_the_decisions(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"sampler": "laws"})
    planner = Planner(SPACE, config, BASE[1])
    driver = Driver(tmp_path, BUDGET, SPACE.limits.step_tokens, 1)
    tell = partial(foretell, space=SPACE, config=ObjectiveConfig())
    for _ in range(6):
        advance(driver, planner.decide, lambda survey, job: tell(survey, job=job))
        driver.end(outcome(driver.unfinished()[0]))
    assert [p.metric for p in driver.predictions] == ["domain_loss", "general_loss"] * 2
    assert Driver(tmp_path, BUDGET, SPACE.limits.step_tokens, 1).predictions == driver.predictions
