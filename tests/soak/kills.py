"""Runs with kills in them: what dies, when, and whether the run ends like the one left alone."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Literal

import psutil

from tests.soak.nodes import WORKER, Cluster, Node
from tests.soak.runs import STEPS, Bench, Command, Setting, differences, step_of
from training.job import Record

Kind = Literal["worker", "driver", "node", "stop"]
KINDS: tuple[Kind, ...] = ("worker", "driver", "node")
SETTINGS = tuple(Setting(stage, world) for stage in (0, 1, 2, 3) for world in (1, 2))
_SPAN = (0.05, 0.7)
"""Where kills fall, as a share of the steps: what follows must be long enough for the kill to come before the end."""
_PATIENCE_SECONDS = 300


@dataclass(frozen=True)
class Kill:
    """One kill of a run."""

    kind: Kind
    """``worker``: the process of one worker. ``driver``: the command with its session, which is then issued again.
    ``node``: all processes of a node that holds a worker; another one takes its place. ``stop``: a worker stands still
    (SIGSTOP) until the run's watchdog ends it."""
    step: int
    """It comes when the run has recorded this step ..."""
    delay: float
    """... and this share of a step later: also while evaluating and while a checkpoint is being written."""


@dataclass(frozen=True)
class Trial:
    """One run with its kills, in their order."""

    setting: Setting
    kills: tuple[Kill, ...]


@dataclass(frozen=True)
class Landed:
    """What became of a kill."""

    kill: Kill
    setting: Setting
    at_step: int
    """The last step recorded when it came."""
    seconds: float | None
    """Until the run made its next new step; None: it never did."""
    wrong: tuple[str, ...] = ()
    """How the end of its run differs from that of the run left alone."""


def draw(kills: int, seed: int, kinds: tuple[Kind, ...] = KINDS) -> list[Trial]:
    """``kills`` kills of all ``kinds``, dealt to runs of all settings, at random steps; the same for the same seed."""
    rng = random.Random(seed)
    settings = rng.sample(SETTINGS, k=min(kills, len(SETTINGS)))
    dealt: dict[Setting, list[Kind]] = {setting: [] for setting in settings}
    for setting, kind in zip(cycle(settings), _shuffled(kinds, kills, rng), strict=False):
        dealt[setting].append(kind)
    return [trial(setting, mine, rng) for setting, mine in dealt.items()]


def trial(setting: Setting, kinds: list[Kind], rng: random.Random) -> Trial:
    """A run with kills at random steps: one in each of as many equal parts of the run."""
    first, last = (round(share * STEPS) for share in _SPAN)
    part = (last - first) / len(kinds)
    steps = [rng.randrange(round(first + i * part), round(first + (i + 1) * part)) for i in range(len(kinds))]
    return Trial(setting, tuple(Kill(kind, step, rng.random()) for kind, step in zip(kinds, steps, strict=True)))


def run_trial(bench: Bench, cluster: Cluster, planned: Trial, work: Path) -> list[Landed]:
    """Start a run, disturb it, let it end, and compare it with the run left alone."""
    expected = bench.reference(planned.setting)
    command = Command(bench, planned.setting, work, cluster.environment)
    landed: list[Landed] = []
    try:
        for kill in planned.kills:
            landed.append(_disturb(command, cluster, kill, planned.setting))
        code = command.wait(_PATIENCE_SECONDS)
        if code is None:
            wrong = [f"hangs at step {step_of(command.records())}"]
        elif code:
            wrong = [f"exit {code}: {command.last_words()}"]
        else:
            wrong = differences(command, expected) + _left(cluster)
    except _GoneWrongError as error:
        wrong = [f"{error}: {command.last_words()}"]
        landed += [
            Landed(kill, planned.setting, step_of(command.records()), None) for kill in planned.kills[len(landed) :]
        ]
    finally:
        if command.ended() is None:
            command.kill()
    return [replace(one, wrong=tuple(wrong)) for one in landed]


class _GoneWrongError(Exception):
    """A kill could not be dealt, or the run did not survive it."""


def _disturb(command: Command, cluster: Cluster, kill: Kill, setting: Setting) -> Landed:
    """Deal one kill when its moment has come, and wait until the run makes new steps."""
    if not command.wait_for(lambda records: step_of(records) >= kill.step, _PATIENCE_SECONDS):
        raise _GoneWrongError(f"step {kill.step} never came")
    time.sleep(kill.delay * _seconds_a_step(command.records()))
    at_step, struck = step_of(command.records()), time.time()
    if kill.kind == "driver":
        command.kill()
        command.again()
    else:
        node, worker = random.Random(kill.step).choice(_workers(cluster))
        if kill.kind == "node":
            cluster.replace(node)
        else:
            worker.send_signal(signal.SIGSTOP if kill.kind == "stop" else signal.SIGKILL)

    def goes_on(records: list[Record]) -> bool:
        # No new start is that fast; what had been on its way may still arrive.
        return any(record["time_ms"] > 1000 * (struck + 1) and record["step"] > at_step for record in records)

    if not command.wait_for(goes_on, _PATIENCE_SECONDS):
        raise _GoneWrongError(f"did not go on after the {kill.kind} was killed at step {at_step}")
    return Landed(kill, setting, at_step, time.time() - struck)


def _workers(cluster: Cluster) -> list[tuple[Node, psutil.Process]]:
    found = [(node, process) for node in cluster.nodes for process in node.processes(WORKER)]
    if not found:
        raise _GoneWrongError("no worker is there to be killed")
    return found


def _seconds_a_step(records: list[Record]) -> float:
    """From the times of the last two steps recorded."""
    times = [record["time_ms"] for record in records if "train/loss" in record["metrics"]][-2:]
    return min(1.0, max(0.0, (times[-1] - times[0]) / 1000)) if times else 0.0


def _left(cluster: Cluster) -> list[str]:
    """Processes of a run that has ended; Ray takes a moment to end them."""
    end = time.monotonic() + 30
    while (left := cluster.left_of_runs()) and time.monotonic() < end:
        time.sleep(0.5)
    return [f"still there: {title}" for title in left]


def _shuffled(kinds: tuple[Kind, ...], count: int, rng: random.Random) -> Iterator[Kind]:
    """``count`` kinds, as many of each as can be, in random order."""
    chosen = list(islice(cycle(kinds), count))
    rng.shuffle(chosen)
    return iter(chosen)
