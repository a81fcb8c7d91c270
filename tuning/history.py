"""What happened so far, as plain values: jobs (a trial run from one rung to the next) and their reports."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tuning.space import Point


@dataclass(frozen=True)
class Report:
    """Metrics of a trial after so many tokens."""

    tokens: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Job:
    """One piece of work: a trial from ``start`` to ``end`` tokens, resumed from its checkpoint when ``start`` > 0.

    Invariant: ``number`` counts decisions from 0; a trial's jobs follow each other without a gap in tokens.
    """

    number: int
    trial: int
    point: Point
    seed: int
    """Of the trial: data order and everything random in it."""
    start: float
    end: float
    reason: str
    """Why this job, in a few words, for the log."""


@dataclass(frozen=True)
class Result:
    """A job that ended. A failed one keeps the reports it made."""

    job: Job
    reports: tuple[Report, ...]
    state: Literal["done", "failed"] = "done"


@dataclass(frozen=True)
class Trial:
    """All that is known of a trial."""

    number: int
    point: Point
    seed: int
    reports: tuple[Report, ...]
    failed: bool
    """It goes on no more: an error, or a divergence."""
    diverged: bool
    """A metric stopped being finite: the recipe's own fault, so that its neighbourhood is left alone."""
    running: bool

    @property
    def tokens(self) -> float:
        """Tokens at its last report."""
        return self.reports[-1].tokens if self.reports else 0.0

    @property
    def finished(self) -> bool:
        """Whether it reached the end of its run."""
        return self.tokens >= self.point.tokens * (1 - 1e-6)


@dataclass(frozen=True)
class History:
    """Results in the order of their jobs' numbers, and jobs that still run."""

    results: tuple[Result, ...] = ()
    pending: tuple[Job, ...] = ()
    earlier: tuple[Trial, ...] = ()
    """Trials of other searches on the same surface: evidence for the laws, never handed over. Numbered from -1 down."""
    trials: tuple[Trial, ...] = field(init=False)
    """By number."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "results", tuple(sorted(self.results, key=lambda result: result.job.number)))
        object.__setattr__(self, "trials", tuple(_trials(self.results, self.pending)))

    @property
    def finished(self) -> list[Trial]:
        """Trials that reached the end of their runs."""
        return [trial for trial in self.trials if trial.finished and not trial.failed]

    @property
    def paused(self) -> list[Trial]:
        """Trials that wait at a rung and can be promoted."""
        return [t for t in self.trials if t.reports and not (t.finished or t.failed or t.running)]


def visible(results: Sequence[Result], jobs: Sequence[Job], concurrent: int) -> History:
    """What decision ``len(jobs)`` may know: whole rounds of ``concurrent`` results, as many as are there whatever job was
    faster. Later jobs count as pending even when they have ended, so that the search is the same at every speed.

    Raises:
        LookupError: a result that the decision needs is not there yet; wait for it.
    """
    known = max(0, len(jobs) - concurrent + 1) // concurrent * concurrent
    by_number = {result.job.number: result for result in results}
    missing = [job.number for job in jobs if job.number < known and job.number not in by_number]
    if missing:
        raise LookupError(f"decision {len(jobs)} waits for job {missing[0]}")
    return History(
        tuple(by_number[job.number] for job in jobs if job.number < known),
        tuple(job for job in jobs if job.number >= known),
    )


def to_record(value: Job | Result) -> dict[str, Any]:
    """Plain JSON values of a job or a result; ``result_of`` is the inverse for results."""
    job = value.job if isinstance(value, Result) else value
    record: dict[str, Any] = {**job.__dict__, "point": dict(job.point.__dict__)}
    if isinstance(value, Result):
        reports = [{"tokens": r.tokens, "metrics": dict(r.metrics)} for r in value.reports]
        return {"job": record, "reports": reports, "state": value.state}
    return record


def job_of(record: Mapping[str, Any]) -> Job:
    """The job of a record."""
    return Job(**{**record, "point": Point(**record["point"])})


def result_of(record: Mapping[str, Any]) -> Result:
    """The result of a record."""
    reports = tuple(Report(r["tokens"], r["metrics"]) for r in record["reports"])
    return Result(job_of(record["job"]), reports, record["state"])


def _trials(results: Iterable[Result], pending: Iterable[Job]) -> list[Trial]:
    reports: dict[int, list[Report]] = {}
    failed: set[int] = set()
    diverged: set[int] = set()
    jobs: dict[int, Job] = {}
    for result in results:
        number = result.job.trial
        jobs[number] = result.job
        reports.setdefault(number, []).extend(result.reports)
        if result.state == "failed":
            failed.add(number)
        if not all(math.isfinite(value) for report in result.reports for value in report.metrics.values()):
            diverged.add(number)
    waiting = set()
    for job in pending:
        jobs.setdefault(job.trial, job)
        waiting.add(job.trial)
    return [
        Trial(
            number,
            job.point,
            job.seed,
            tuple(reports.get(number, ())),
            number in failed | diverged,
            number in diverged,
            number in waiting,
        )
        for number, job in sorted(jobs.items())
    ]
