"""A run that is asked to save or to stop."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from ground.files import digest_file
from pipelines.store import TokenStore
from tests.helpers.runs import run_tiny
from tests.training.conftest import SHORT, Finished
from training.control import Control, Request, Stopped


class Asks(Control):
    """Asks for something at one record, and notes what happens."""

    def __init__(self, request: Request, at: int) -> None:
        self._request, self._at, self._calls = request, at, 0
        self.done: list[str] = []
        self.whole: list[str] = []

    def requested(self) -> Request:
        self._calls += 1
        return self._request if self._calls == self._at else Request.NONE

    def tick(self, doing: str) -> None:
        self.done.append(doing)

    def saved(self, folder: Path) -> None:
        self.whole.append(folder.name)


@pytest.mark.parametrize("step", [11, 12])
def test_a_stopped_run_goes_on_bitwise(store: TokenStore, finished: Finished, tmp_path: Path, step: int) -> None:
    """Also when it stops at a step that is evaluated."""
    asks = Asks(Request.STOP, at=step)
    with pytest.raises(Stopped, match=f"after step {step}"):
        run_tiny(store, tmp_path, control=asks, **SHORT)
    assert asks.whole == ["step-8", f"step-{step}"]
    assert not (tmp_path / "model").exists()
    reporter, outcome = run_tiny(store, tmp_path, **SHORT)
    assert digest_file(outcome.model / "model.safetensors") == digest_file(finished.outcome.model / "model.safetensors")
    for name in ("train/loss", "heldout/med/loss", "update/ratio"):
        assert reporter.curve(name) == finished.reporter.curve(name)


def test_a_run_that_goes_from_rung_to_rung_is_the_same_run(
    store: TokenStore, finished: Finished, tmp_path: Path
) -> None:
    """Each stop has an evaluation and a checkpoint, also a second time at the same step and at one that is not evaluated."""
    for until in (5, 5, 11):
        with pytest.raises(Stopped, match=f"after step {until}"):
            run_tiny(store, tmp_path, until=until, **SHORT)
        assert (tmp_path / "checkpoints" / f"step-{until}").is_dir()
    reporter, outcome = run_tiny(store, tmp_path, until=10_000, **SHORT)
    assert digest_file(outcome.model / "model.safetensors") == digest_file(finished.outcome.model / "model.safetensors")
    assert reporter.curve("train/loss")[-1] == finished.reporter.curve("train/loss")[-1]


def test_a_run_that_is_asked_to_save_goes_on(store: TokenStore, tmp_path: Path) -> None:
    asks = Asks(Request.SAVE, at=3)
    run_tiny(store, tmp_path, control=asks, **SHORT)
    assert asks.whole == ["step-3", "step-8", "step-16"]
    assert {"step 1", "evaluation after step 4", "checkpoint of step 3", "writing the model"} <= set(asks.done)


def test_the_exception_travels_between_processes() -> None:
    assert pickle.loads(pickle.dumps(Stopped(12))).step == 12
