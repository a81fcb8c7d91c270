"""How much of a run's time trains the model, when machines fail and some are slow: closed forms and a simulation.

Goodput is the time that the run would take if nothing failed, no checkpoint held it up and all nodes were equal, over the
time it takes. Seconds everywhere. What is modelled, as ``training/`` does it:

- a checkpoint holds training up for ``held`` while the states are copied, and is whole ``written`` after that; only a whole
  one can be gone back to;
- a failure of any node stops all; after ``restart`` they go on from the newest whole checkpoint; a failure during a restart
  begins it again;
- a step takes as long as its slowest node.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Run:
    """What is to be done."""

    steps: int
    step_s: float
    """Of a step when all nodes are equal."""
    nodes: int


@dataclass(frozen=True)
class Checkpoints:
    """How often and at what price."""

    every: int
    """Steps from one to the next."""
    held_s: float
    written_s: float = 0.0


@dataclass(frozen=True)
class Faults:
    """What goes wrong."""

    mtbf_s: float
    """Mean time between failures of the whole group; exponential."""
    restart_s: float
    jitter: float = 0.0
    """Standard deviation of a node's step time, relative; normal, each step anew."""


@dataclass(frozen=True)
class Simulated:
    """One run, simulated. The parts sum to ``wall_s``."""

    wall_s: float
    training_s: float
    """Steps that count, at the pace of the equal nodes."""
    waiting_s: float
    """For the slowest node, in steps that count."""
    held_s: float
    """For checkpoints that count."""
    lost_s: float
    """Work and copies that a failure threw away."""
    restarting_s: float
    failures: int

    @property
    def goodput(self) -> float:
        """Share of the wall time that trains."""
        return self.training_s / self.wall_s


def simulate(run: Run, checkpoints: Checkpoints, faults: Faults, seed: int) -> Simulated:
    """Play one run, step by step; the same seed gives the same run."""
    random = np.random.default_rng(seed)
    slowest = 1 + faults.jitter * _slowest_of(run, faults, random)
    took = run.step_s * np.maximum(slowest, 0.0)
    has_checkpoint = np.arange(1, run.steps + 1) % checkpoints.every == 0
    ends = np.concatenate([[0.0], np.cumsum(took + checkpoints.held_s * has_checkpoint)])  # of steps, if nothing fails
    now, done, failures, lost, restarting = 0.0, 0, 0, 0.0, 0.0
    next_failure = random.exponential(faults.mtbf_s)
    while now + ends[run.steps] - ends[done] > next_failure:
        failures += 1
        worked = next_failure - now
        reached = int(np.searchsorted(ends, ends[done] + worked, side="right")) - 1
        whole = _newest_whole(ends, done, reached, ends[done] + worked, checkpoints)
        lost += worked - (ends[whole] - ends[done])
        now, done = next_failure, whole
        next_failure = now + random.exponential(faults.mtbf_s)
        while now + faults.restart_s > next_failure:
            failures += 1
            restarting += next_failure - now
            now, next_failure = next_failure, next_failure + random.exponential(faults.mtbf_s)
        restarting += faults.restart_s
        now += faults.restart_s
    wall = now + ends[run.steps] - ends[done]
    training, held = run.steps * run.step_s, checkpoints.held_s * int(has_checkpoint.sum())
    return Simulated(wall, training, ends[run.steps] - held - training, held, lost, restarting, failures)


def daly_goodput(interval_s: float, checkpoints: Checkpoints, faults: Faults) -> float:
    """Expected goodput with ``interval_s`` of training between checkpoints and equal nodes.

    Daly (2006, "A higher order estimate of the optimum checkpoint interval for restart dumps", section 2): wall time over
    training time = M e^(R/M) (e^((T + d)/M) - 1) / T with M the MTBF, R the restart, T the interval, d what a checkpoint holds
    up. Exact for exponential failures. That a checkpoint is whole only w later loses w more at each failure, which is
    to first order a restart that is w longer: R + w.
    """
    mtbf, longer = faults.mtbf_s, faults.restart_s + checkpoints.written_s
    return interval_s / (mtbf * math.exp(longer / mtbf) * math.expm1((interval_s + checkpoints.held_s) / mtbf))


def young_interval(held_s: float, mtbf_s: float) -> float:
    """The interval that loses least, to first order: sqrt(2 d M) (Young 1974)."""
    return math.sqrt(2 * held_s * mtbf_s)


def daly_interval(held_s: float, mtbf_s: float) -> float:
    """The interval that loses least, by Daly's (2006) third-order formula; the MTBF where a copy takes twice that."""
    if held_s >= 2 * mtbf_s:
        return mtbf_s
    x = held_s / (2 * mtbf_s)
    return math.sqrt(2 * held_s * mtbf_s) * (1 + math.sqrt(x) / 3 + x / 9) - held_s


def expected_maximum(nodes: int) -> float:
    """Mean of the largest of ``nodes`` standard normal numbers: the integral of x n phi(x) Phi(x)^(n - 1)."""
    x = np.linspace(-10, 10, 20_001)
    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(x))])
    return float(np.trapezoid(x * nodes * density * below ** (nodes - 1), x))


def _slowest_of(run: Run, faults: Faults, random: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The largest of the nodes' standard normal numbers, for every step."""
    if not faults.jitter:
        return np.zeros(run.steps)
    largest = np.full(run.steps, -np.inf)
    for _ in range(run.nodes):  # one node at a time: a thousand nodes need no more memory than one
        np.maximum(largest, random.standard_normal(run.steps), out=largest)
    return largest


def _newest_whole(
    ends: np.ndarray[tuple[int], np.dtype[np.float64]], done: int, reached: int, at: float, checkpoints: Checkpoints
) -> int:
    """Steps of the newest checkpoint that was whole at time ``at`` of the undisturbed run; ``done`` if there is no newer."""
    newest = reached - reached % checkpoints.every
    while newest > done and ends[newest] + checkpoints.written_s > at:
        newest -= checkpoints.every
    return max(newest, done)
