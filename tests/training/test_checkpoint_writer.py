"""Writing checkpoints beside the training."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from ground.files import digest_file
from pipelines.store import TokenStore
from tests.helpers.disks import mounted
from tests.helpers.runs import run_tiny
from tests.training.conftest import SHORT, Finished
from training import checkpoint_writer
from training.checkpoint import read_position
from training.checkpoint_writer import _copied
from training.control import Control, Request


def test_training_goes_on_while_a_checkpoint_is_written(
    store: TokenStore, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is held back until 5 more steps are done; the checkpoint still has the states of its own step."""
    reached = threading.Event()
    real = torch.save

    def slow(*arguments: Any) -> None:
        assert reached.wait(60)
        real(*arguments)

    class Watching(Control):
        def requested(self) -> Request:
            calls.append(1)
            if len(calls) == 13:
                reached.set()
            return Request.NONE

    calls: list[int] = []
    monkeypatch.setattr(checkpoint_writer.torch, "save", slow)
    _, outcome = run_tiny(store, tmp_path / "a", control=Watching(), **SHORT)
    assert digest_file(outcome.model / "model.safetensors") == digest_file(finished.outcome.model / "model.safetensors")
    monkeypatch.undo()
    _, resumed = run_tiny(store, tmp_path / "b", resume=tmp_path / "a" / "checkpoints" / "step-8", **SHORT)
    assert digest_file(resumed.model / "model.safetensors") == digest_file(finished.outcome.model / "model.safetensors")


@pytest.mark.parametrize("kind", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("file write failed")])
def test_a_full_disk_costs_one_checkpoint_and_leaves_the_older_one(
    store: TokenStore, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Exception
) -> None:
    real = torch.save
    count = [0]

    def full(*arguments: Any) -> None:
        count[0] += 1
        if count[0] > 2:  # the first checkpoint's two files fit
            raise kind
        real(*arguments)

    monkeypatch.setattr(checkpoint_writer.torch, "save", full)
    reporter, outcome = run_tiny(store, tmp_path, **SHORT)
    (notice,) = reporter.notices
    assert "the checkpoint of step 16 could not be written" in notice and str(kind) in notice
    folder = tmp_path / "checkpoints"
    assert [path.name for path in folder.iterdir()] == ["step-8"]
    assert read_position(folder / "step-8").step == 8
    assert digest_file(outcome.model / "model.safetensors") == digest_file(finished.outcome.model / "model.safetensors")


def test_a_disk_that_is_really_full(store: TokenStore, finished: Finished, tmp_path: Path) -> None:
    """Room for one checkpoint and a half."""
    first = finished.folder / "checkpoints" / "step-8"
    room = sum(file.stat().st_size for file in first.rglob("*") if file.is_file()) * 3 // 2
    with mounted(tmp_path / "checkpoints", f"size={room}") as folder:
        reporter, outcome = run_tiny(store, tmp_path, **SHORT)
        (notice,) = reporter.notices
        assert "the checkpoint of step 16 could not be written" in notice
        assert [path.name for path in folder.iterdir()] == ["step-8"]
        assert read_position(folder / "step-8").step == 8
    assert digest_file(outcome.model / "model.safetensors") == digest_file(finished.outcome.model / "model.safetensors")


def test_copies_are_apart_from_what_goes_on() -> None:
    live = torch.arange(6.0)
    state = {"a": [live[:2], (live, "x")], "b": {"n": 3, "none": None}}
    taken = _copied(state)
    live += 100
    assert taken["a"][0].tolist() == [0.0, 1.0]
    assert taken["a"][1][0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert taken["b"] == {"n": 3, "none": None}
    assert taken["a"][0].untyped_storage().nbytes() == 8  # of a view only what it shows
