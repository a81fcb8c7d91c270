"""The run that is killed, the same run left alone, and what must be equal of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster.recipe import load_recipe
from cluster.workflow import make_job, plan_runs
from ground.files import digest_file
from pipelines.store import TokenStore
from tests.helpers.ranks import run_ranks
from tests.helpers.recipes import small_recipe
from tests.helpers.runs import TIMED
from tests.helpers.stores import make_store
from training.job import Job, Record

STEPS = 120
_BATCH, _CHECKPOINT_STEPS = 2048, 7
_COMPARED = ("train/", "heldout/", "update/", "alarm/")
_NAME = "small"
_MODEL = Path("model") / "model.safetensors"

Curves = dict[tuple[str, int], float]
"""(metric, tokens) -> value."""


@dataclass(frozen=True)
class Setting:
    """What runs are told apart by."""

    stage: int
    """ZeRO."""
    world: int
    """Workers."""

    def overrides(self, work: Path) -> list[str]:
        """For the command line."""
        return [f"work={work}", f"training.zero_stage={self.stage}", f"training.workers={self.world}"]


class Bench:
    """A recipe with its store, and the references made of it so far."""

    def __init__(self, folder: Path) -> None:
        store = folder / "store"
        make_store(store, {"med": ("domain", 60_000), "wiki": ("general", 60_000)})
        self.folder = folder
        self.recipe = small_recipe(
            folder,
            with_store=False,
            curation={"store": str(store)},
            mixture={
                "shares": {"med": 0.8, "wiki": 0.2},
                "subset_tokens": _BATCH * STEPS // 5,
                "epochs": 5,
            },
            training={
                "sequence_length": 64,
                "global_batch_tokens": _BATCH,
                "micro_batch": 4,
                "learning_rate": 3.0e-3,
                "accelerator": "cpu",
                "threads": 1,
                "checkpoint_tokens": _CHECKPOINT_STEPS * _BATCH,
                "max_failures": 10,
                "watchdog_s": 60,
            },
            evaluation={"points": 20, "sequences": 16},
        )
        self._references: dict[Setting, tuple[Curves, str]] = {}

    def reference(self, setting: Setting) -> tuple[Curves, str]:
        """Curves and digest of the weights of the run left alone, trained without Ray."""
        if setting not in self._references:
            job = self._job(setting, self.folder / f"whole-{setting.stage}-{setting.world}")
            records = run_ranks(job, setting.world)
            self._references[setting] = curves(records), digest_file(Path(job.folder) / _MODEL)
        return self._references[setting]

    def _job(self, setting: Setting, work: Path) -> Job:
        recipe = load_recipe(self.recipe, setting.overrides(work))
        (planned,) = plan_runs(recipe, device="cpu", peak_flops=None)
        return make_job(planned, TokenStore.open(recipe.store_folder))


class Command:
    """``steady train`` in a session of its own, and what its run has recorded."""

    def __init__(
        self, bench: Bench, setting: Setting, work: Path, environment: dict[str, str], *overrides: str
    ) -> None:
        line = [sys.executable, "-m", "cluster", "train", str(bench.recipe), *setting.overrides(work), *overrides]
        self._line = line
        self._work, self._environment = work, environment
        self.run_folder = work / "runs" / _NAME
        self.log = work / "command.log"
        work.mkdir(parents=True)
        self._process = self._start()

    def again(self) -> None:
        """Issue the same command again."""
        self._process = self._start()

    @property
    def pid(self) -> int:
        """Of the driver."""
        return self._process.pid

    def signal(self, number: int) -> None:
        """Send a signal to the driver alone."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to its whole session."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def records(self) -> list[Record]:
        """Whole lines of the run's spool that hold metrics."""
        path = self.run_folder / "spool.jsonl"
        if not path.is_file():
            return []
        lines = path.read_bytes().split(b"\n")[:-1]
        return [record for record in map(json.loads, lines) if "metrics" in record]

    def wait_for(self, seen: Callable[[list[Record]], bool], seconds: float) -> bool:
        """Wait until ``seen`` holds of the records; False when the command ends or ``seconds`` pass before."""
        end = time.monotonic() + seconds
        while not seen(self.records()):
            if self.ended() is not None or time.monotonic() > end:
                return seen(self.records())
            time.sleep(0.03)
        return True

    def wait(self, seconds: float) -> int | None:
        """Its exit code, or None when it still runs after ``seconds``."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def last_words(self) -> str:
        """The last lines it printed."""
        return "\n".join(self.log.read_text().splitlines()[-20:])

    def _start(self) -> subprocess.Popen[bytes]:
        with open(self.log, "ab") as log:
            return subprocess.Popen(self._line, env=self._environment, stdout=log, stderr=log, start_new_session=True)


def step_of(records: list[Record]) -> int:
    """The last step that was recorded."""
    return max((int(record["step"]) for record in records if "step" in record), default=0)


def curves(records: list[Record]) -> Curves:
    """All that a run measured but its speed.

    Raises:
        ValueError: a point is there twice.
    """
    found: Curves = {}
    for record in records:
        for name, value in record["metrics"].items():
            if not name.startswith(_COMPARED) or name in TIMED:
                continue
            if (name, record["tokens"]) in found:
                raise ValueError(f"{name} at {record['tokens']} tokens is recorded twice")
            found[name, record["tokens"]] = value
    return found


def differences(command: Command, expected: tuple[Curves, str]) -> list[str]:
    """What a finished run has other than its reference: points, weights, files left over."""
    try:
        found = curves(command.records())
    except ValueError as error:
        return [str(error)]
    curve, weights = expected
    wrong = [
        f"{name} at {tokens} tokens is {found.get((name, tokens))}, not {curve.get((name, tokens))}"
        for name, tokens in sorted(curve.keys() | found.keys())
        if curve.get((name, tokens)) != found.get((name, tokens))
    ]
    if digest_file(command.run_folder / _MODEL) != weights:
        wrong.append("other weights")
    rests = (path for path in command.run_folder.rglob("*") if _is_a_rest(path.name))
    return wrong + [f"left over: {path.relative_to(command.run_folder)}" for path in rests]


def _is_a_rest(name: str) -> bool:
    return name.endswith(".tmp") or name.startswith(".step-") or "universal" in name
