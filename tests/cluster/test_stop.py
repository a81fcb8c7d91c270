"""A run that is told to stop, and one whose worker hangs: both end like the run left alone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.soak.runs import Bench, Command, Setting, differences, step_of

pytestmark = pytest.mark.slow
SETTING = Setting(1, 2)


def test_sigterm_writes_a_checkpoint_and_a_hung_worker_is_found(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    expected = bench.reference(SETTING)
    command = Command(bench, SETTING, tmp_path / "run", dict(os.environ), "training.watchdog_s=10")
    try:
        assert command.wait_for(lambda records: step_of(records) >= 10, 200), command.last_words()
        command.signal(signal.SIGTERM)
        assert command.wait(100) == 128 + signal.SIGTERM, command.last_words()
        stopped = step_of(command.records())
        assert f"stopped after step {stopped}; the same command goes on from there" in command.last_words()
        assert (command.run_folder / "checkpoints" / f"step-{stopped}").is_dir()

        command.again()
        assert command.wait_for(lambda records: step_of(records) >= stopped + 5, 200), command.last_words()
        at = step_of(command.records())
        workers = [p for p in psutil.process_iter() if p.name().startswith("ray::RayTrain") and _is_of(p, command)]
        assert len(workers) == SETTING.world
        workers[0].suspend()
        assert command.wait_for(lambda records: step_of(records) > at + 5, 200), command.last_words()
        assert not workers[0].is_running()
        assert command.wait(200) == 0, command.last_words()
        said = command.last_words()
        assert "no progress for 1" in said and "the workers start again (1 of" in said
        assert differences(command, expected) == []
    finally:
        if command.ended() is None:
            command.kill()


def _is_of(process: psutil.Process, command: Command) -> bool:
    """Whether a Ray worker belongs to this command's own Ray."""
    parents = [parent.pid for parent in process.parents()]
    return command.pid in parents
