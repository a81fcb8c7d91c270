"""A search in MLflow: one parent run, one child for each trial, filled from the trials' records while they train."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from cluster.tune_setup import Setup
from tracking.runs import RunLog, Tracker
from training.gap import gap_metrics
from training.job import Record
from tuning.driver import Driver
from tuning.history import Job, Result
from tuning.predictions import Prediction
from tuning.trial import RECORDS, trial_name


class TrialLogs:
    """Child runs of a search. Call :meth:`update` again and again; this is the one process that writes them.

    Nothing is remembered on disk: sending a record twice does nothing.
    """

    def __init__(self, tracker: Tracker, parent: RunLog, setup: Setup, driver: Driver) -> None:
        self._tracker, self._parent, self._setup, self._driver = tracker, parent, setup, driver
        self._open: dict[int, tuple[RunLog, _Tail]] = {}
        self._jobs, self._results, self._predictions = 0, set[int](), 0

    def update(self) -> list[Result]:
        """Send what is new; returns the results that came since the last call, by their jobs' numbers."""
        for job in self._driver.jobs[self._jobs :]:
            self._begin(job)
            self._jobs += 1
        for log, tail in self._open.values():
            for record in tail.read():
                log.log(self._with_objective(record))
        new = [r for number, r in sorted(self._driver.results.copy().items()) if number not in self._results]
        for result in new:
            self._results.add(result.job.number)
            self._settle(result)
        return new

    def close(self) -> None:
        """End the runs that are open: their trials go on another time."""
        self.update()
        for trial in list(self._open):
            self._finish(trial, "waits")

    def _begin(self, job: Job) -> None:
        if job.trial not in self._open:
            folder = self._setup.folder / trial_name(job.trial)
            point = job.point
            rate = point.learning_rate or self._setup.template.training.learning_rate
            log = self._tracker.run(
                trial_name(job.trial),
                folder,
                parent=self._parent,
                tags={"steady.kind": "trial", "steady.store": self._setup.store.digest, "steady.state": "runs"},
                params={
                    "subset_tokens": point.subset_tokens,
                    "epochs": round(point.epochs, 4),
                    "domain_share": round(point.share, 4),
                    "learning_rate": rate,
                    "run_tokens": round(point.tokens),
                    "seed": job.seed,
                },
                description=f"S = {point.subset_tokens:,} tokens, E = {point.epochs:.3g}, domain share {point.share:.3g}",
            )
            self._open[job.trial] = log, _Tail(folder / RECORDS)
        log = self._open[job.trial][0]
        log.tags({f"steady.job.{job.number}": f"{job.start:,.0f} to {job.end:,.0f} tokens: {job.reason}"})
        foretold = [p for p in self._driver.predictions if p.job == job.number]
        log.log(_record(job.end, _predicted(foretold)))
        log.log(_record(job.end, {"ledger/reserved_tokens": job.end - job.start}))

    def _settle(self, result: Result) -> None:
        job = result.job
        held = self._open.get(job.trial)
        if held is None:
            return
        log = held[0]
        for record in held[1].read():
            log.log(self._with_objective(record))
        trained = max((report.tokens for report in result.reports), default=job.start)
        log.log(_record(trained, {"ledger/settled_tokens": trained - job.start, "trial/tokens": trained}))
        state = self._driver.ledger.state()
        # The parent's axis is what the search has spent.
        self._parent.log(_record(state.settled, {"ledger/settled": state.settled, "ledger/reserved": state.reserved}))
        if result.state == "failed":
            self._finish(job.trial, "failed")
        elif job.end >= job.point.tokens * (1 - 1e-6):
            self._finish(job.trial, "finished")
        elif all(other.trial != job.trial for other in self._driver.unfinished()):
            self._finish(job.trial, f"paused at {job.end / job.point.tokens:.0%}")

    def _finish(self, trial: int, state: str) -> None:
        log, tail = self._open.pop(trial)
        if state == "finished":
            log.log(_gap_record(tail))
        log.tags({"steady.state": state})
        log.finish("FAILED" if state == "failed" else "FINISHED")

    def _with_objective(self, record: Record) -> Record:
        found = self._setup.blend.metrics(record["metrics"], self._setup.config.objective)
        return {**record, "metrics": {**record["metrics"], **found}}


class _Tail:
    """The new whole lines of a file that another process appends to."""

    def __init__(self, path: Path) -> None:
        self._path, self._file, self._part = path, None, ""
        self.records: list[Record] = []

    _file: IO[str] | None

    def read(self) -> list[Record]:
        if self._file is None:
            if not self._path.is_file():
                return []
            self._file = open(self._path)  # noqa: SIM115 (kept open between calls)
        lines = (self._part + self._file.read()).splitlines(keepends=True)
        self._part = lines.pop() if lines and not lines[-1].endswith("\n") else ""
        new = [record for line in lines if "tokens" in (record := json.loads(line))]
        self.records += new
        return new


def _predicted(predictions: Sequence[Prediction]) -> dict[str, float]:
    out: dict[str, float] = {}
    for p in predictions:
        out |= {f"predicted/{p.metric}": p.mean, f"predicted/{p.metric}/sd": p.sd}
    return out


def _gap_record(tail: _Tail) -> Record:
    metrics: dict[str, float] = {}
    curves: dict[str, dict[int, float]] = {}
    for record in tail.records:
        for name, value in record["metrics"].items():
            if name.startswith("heldout/") and name.endswith("/loss"):
                curves.setdefault(name.split("/")[1], {})[record["tokens"]] = value
    for source, curve in curves.items():
        gap = gap_metrics(sorted(curve), [-curve[tokens] for tokens in sorted(curve)])
        metrics |= {f"gap/{source}/{k}": float(v) for k, v in vars(gap).items() if v is not None}
    tokens = tail.records[-1]["tokens"] if tail.records else 0
    return _record(tokens, metrics)


def _record(tokens: float, metrics: dict[str, float]) -> Record:
    return {"tokens": round(tokens), "time_ms": time.time_ns() // 1_000_000, "metrics": metrics}
