"""Along a search and beyond its end, for the report: what it would have handed over when, and what more budget would buy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tracking.search_parts import Estimate, NextData, Pick, Proposal, Replicate
from tuning.beliefs import Beliefs
from tuning.config import TuningConfig
from tuning.history import History, Job, Result, Trial
from tuning.objective import Scalar
from tuning.propose import Decision, Stop, Survey
from tuning.space import Point, Space
from tuning.views import estimates, knobs_of

_PICKS = 24
"""Moments of a search that are fitted again; each costs a fit."""
_PROPOSALS = 4
_DRAWS = 400

Decider = Callable[[History, int, float], Decision]


def picks(
    space: Space, config: TuningConfig, base: float, results: Sequence[Result], spent: Sequence[float], now: Beliefs,
    scalar: Scalar,
) -> tuple[Pick, ...]:  # fmt: skip
    """What the search would have handed over after each result that finished a run, at most ``_PICKS`` of them.

    Args:
        base: the general metric of the base model.
        results: in the order of their jobs.
        spent: [results] tokens charged up to and with each.
        now: what is believed with everything known.
    """
    ends = [k for k in range(1, len(results) + 1) if _ended(results[k - 1])]
    if len(ends) > _PICKS:
        ends = [ends[i] for i in sorted({round(x) for x in np.linspace(0, len(ends) - 1, _PICKS)})]
    found = []
    for k in ends:
        history = History(tuple(results[:k]), earlier=now.history.earlier)
        if not history.finished:
            continue
        beliefs = Beliefs(space, config.objective, history, base, config.seed)
        at = beliefs.inputs([trial.point for trial in history.finished])
        expected = beliefs.expected(at, scalar)
        pick = int(np.argmin(expected))
        sd = float(np.std(beliefs.sample(at, scalar, _DRAWS, np.random.default_rng([config.seed, k]))[:, pick]))
        trial = history.finished[pick]
        later = float(now.expected(now.inputs([trial.point]), scalar)[0])
        value = Estimate(mean=float(expected[pick]), sd=sd)
        found.append(Pick(spent=float(spent[k - 1]), trial=trial.number, value=value, hindsight=later))
    return tuple(found)


def outlook(
    decide: Decider, config: TuningConfig, survey: Survey, scalar: Scalar, history: History, jobs: int, tokens: float
) -> NextData:
    """What would follow with ``tokens`` more to spend.

    Args:
        decide: the planner's.
        jobs: decisions so far.
    """
    beliefs = survey.beliefs
    proposed: list[Job] = []
    stop = ""
    while len(proposed) < _PROPOSALS and not stop:
        ahead = History(history.results, (*history.pending, *proposed), history.earlier)
        action = decide(ahead, jobs + len(proposed), tokens - sum(job.end - job.start for job in proposed)).action
        if isinstance(action, Stop):
            stop = action.reason
        else:
            proposed.append(action)
    return NextData(
        gain=float(survey.gain) if math.isfinite(survey.gain) else None,
        threshold=float(config.patience * beliefs.noise()),
        stop="" if proposed else stop,
        proposals=tuple(_proposal(beliefs, job, history) for job in proposed),
        replicate=_replicate(beliefs, scalar, config.seed) if config.objective.kind == "tolerance" else None,
    )


def _ended(result: Result) -> bool:
    """Whether the result brought its trial to the end of its run."""
    return bool(result.reports) and result.reports[-1].tokens >= result.job.point.tokens * (1 - 1e-6)


def _proposal(beliefs: Beliefs, job: Job, history: History) -> Proposal:
    known = {trial.number for trial in history.trials}
    return Proposal(
        trial=job.trial,
        fresh=job.trial not in known,
        knobs=knobs_of(job.point),
        start=float(job.start),
        end=float(job.end),
        reason=job.reason,
        domain=estimates(beliefs.domain, beliefs, [job.point])[0],
        general=estimates(beliefs.general, beliefs, [job.point])[0],
    )


def _replicate(beliefs: Beliefs, scalar: Scalar, seed: int) -> Replicate | None:
    """Another seed of both adds an observation of their difference with twice the noise of one; None without a rival."""
    first: dict[Point, Trial] = {}
    for trial in beliefs.history.finished:
        first.setdefault(trial.point, trial)
    trials = list(first.values())
    if len(trials) < 2:
        return None
    at = beliefs.inputs([trial.point for trial in trials])
    pick = int(np.argmin(beliefs.expected(at, scalar)))
    draws = beliefs.sample(at, scalar, _DRAWS, np.random.default_rng([seed, 2]))
    apart = draws - draws[:, [pick]]
    better = (apart < 0).mean(axis=0)
    better[pick] = -1
    rival = int(np.argmax(better - 1e-3 * apart.mean(axis=0)))  # of equals, the nearer one
    sd, noise = float(apart[:, rival].std()), beliefs.noise()
    after = 1 / math.sqrt(1 / max(sd, 1e-12) ** 2 + 1 / (2 * max(noise, 1e-12) ** 2))
    difference = Estimate(mean=float(apart[:, rival].mean()), sd=sd)
    return Replicate(rival=trials[rival].number, difference=difference, after=after)
