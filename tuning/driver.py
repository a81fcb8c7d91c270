"""The search as a state machine beside its files: what to run next, what ended, what to do after a crash. No Ray, no threads.

Two journals lie in the search's folder: ``trials.jsonl`` (decisions and results) and ``ledger.jsonl``. Order of writes for a
job: decision, reservation, [the job runs], result, settlement. Whatever is missing after a crash follows from what is there, so
a resumed search takes the same decisions as an undisturbed one:

    decision without reservation    it is reserved now; it fitted, and nothing was decided since
    reservation without result      the job runs again from its checkpoint (``unfinished``)
    result without settlement       it is settled now
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tuning.budget import reservation
from tuning.history import History, Job, Result, Trial, job_of, result_of, to_record, visible
from tuning.journal import Journal, Record
from tuning.ledger import BudgetError, Ledger
from tuning.predictions import Prediction
from tuning.propose import Decision, Stop, Survey

Decider = Callable[[History, int, float], Decision]
"""``Planner.decide`` or ``PlainPlanner.decide``."""
Foreteller = Callable[[Survey, Job], Sequence[Prediction]]
"""``tuning/predictions.py::foretell`` with its space and objective bound."""


REDONE = "redone by trial"
"""How the ledger names tokens that were trained twice."""


class Wait:
    """No decision now: a job in flight must end first."""


@dataclass(frozen=True)
class Room:
    """What a decision may know."""

    history: History
    tokens: float
    """What it may spend. From the visible results, not from the ledger's present state, so that it is the same at every speed;
    never more than the ledger has left."""


class Driver:
    """One search.

    Args:
        folder: of the search; None keeps everything in memory.
        budget: tokens of the whole search.
        step_tokens: tokens of one step; reservations are whole steps.
        concurrent: jobs in flight at most.
        earlier: trials of other searches that decisions may know.
    """

    def __init__(
        self, folder: Path | None, budget: float, step_tokens: int, concurrent: int, earlier: Sequence[Trial] = ()
    ) -> None:
        self.jobs: list[Job] = []
        self.results: dict[int, Result] = {}
        self.predictions: list[Prediction] = []
        self._step, self._concurrent, self._earlier = step_tokens, concurrent, tuple(earlier)
        self.ledger = Ledger(folder and folder / "ledger.jsonl", budget)
        self._journal = Journal(folder and folder / "trials.jsonl", self._apply)
        self._settle_what_ended()

    def unfinished(self) -> list[Job]:
        """Jobs that were decided and have no result: in flight, or to be run again after a restart."""
        return [job for job in self.jobs if job.number not in self.results]

    def history(self) -> History:
        """Everything known, for reports; decisions see less (``tuning/history.py::visible``)."""
        return History(tuple(self.results.values()), tuple(self.unfinished()), self._earlier)

    def room(self) -> Room | None:
        """What the next decision may know; None when it has to wait for a job to end."""
        if len(self.unfinished()) >= self._concurrent:
            return None
        try:
            history = visible(list(self.results.values()), self.jobs, self._concurrent)
        except LookupError:
            return None
        return self._room(replace(history, earlier=self._earlier))

    def last_room(self) -> Room | None:
        """What a decision may know that would end the search: everything. None while a job is in flight."""
        return None if self.unfinished() else self._room(self.history())

    def _room(self, history: History) -> Room:
        seen = sum(_trained(result) for result in history.results)
        promised = sum(self._reserved(job) for job in history.pending)
        return Room(history, self.ledger.state().budget - seen - promised - self._extra())

    def begin(self, job: Job, predictions: Sequence[Prediction] = ()) -> None:
        """Write down a decision and reserve its tokens.

        Raises:
            BudgetError: it does not fit.
        """
        assert job.number == len(self.jobs)
        tokens = self._reserved(job)
        if tokens > self.ledger.state().left:
            raise BudgetError(
                "tuning.budget", f"job {job.number} needs {tokens:,} tokens", "this is a bug: please report it"
            )
        record = {"kind": "job", "job": to_record(job), "predictions": [asdict(p) for p in predictions]}
        self._journal.append(lambda: record)
        self.ledger.reserve(_name(job), tokens, {"trial": job.trial, "end": job.end, "reason": job.reason})

    def end(self, result: Result, device_seconds: float = 0.0) -> None:
        """Write down how a job ended and settle what it trained, by its last report. Saying it again changes nothing."""
        number = result.job.number
        record = {"kind": "result", **to_record(result), "seconds": device_seconds}
        self._journal.append(lambda: None if number in self.results else record)
        self.ledger.settle(_name(result.job), min(_trained(result), self._reserved(result.job)), device_seconds)

    def redo(self, job: Job, tokens: float) -> bool:
        """Charge what a trial had to train again, because a process of it ended after its last checkpoint.

        Args:
            tokens: trained again by the job's trial, in all; what was charged before is left out.

        Returns:
            False when the budget does not reach: end the job as failed with the reports it made.
        """
        known = [name for name in self.ledger.names() if name.startswith(f"{REDONE} {job.trial} ")]
        missing = tokens - sum(self.ledger.charged().get(name, 0.0) for name in known)
        if missing <= 0:
            return True
        name = f"{REDONE} {job.trial} {len(known)}"
        try:
            self.ledger.reserve(name, missing, {"trial": job.trial})
        except BudgetError:
            return False
        self.ledger.settle(name, missing)
        return True

    def _settle_what_ended(self) -> None:
        known = self.ledger.names()
        for job in self.jobs:
            if _name(job) not in known:
                self.ledger.reserve(_name(job), self._reserved(job), {"trial": job.trial, "end": job.end})
            if job.number in self.results and _name(job) in self.ledger.state().open:
                self.ledger.settle(_name(job), min(_trained(self.results[job.number]), self._reserved(job)))

    def _reserved(self, job: Job) -> int:
        return reservation(job.start, job.end, self._step)

    def _extra(self) -> float:
        """Tokens trained twice."""
        return sum(tokens for name, tokens in self.ledger.charged().items() if name.startswith(REDONE))

    def _apply(self, record: Record) -> None:
        if record["kind"] == "job":
            self.jobs.append(job_of(record["job"]))
            self.predictions += [Prediction(**row) for row in record["predictions"]]
        else:
            result = result_of(record)
            self.results[result.job.number] = result


def advance(driver: Driver, decide: Decider, foretell: Foreteller | None = None) -> Decision | Wait:
    """Take the next decision and write it down if it is a job, with what is foretold of it; the caller then runs it.

    A search ends only when the last job in flight has ended and the decision is still to stop: what a failed job gave back can
    then be spent.
    """
    room = driver.room()
    if room is None:
        return Wait()
    decision = decide(room.history, len(driver.jobs), room.tokens)
    if isinstance(decision.action, Stop):
        room = driver.last_room()
        if room is None:
            return Wait()
        decision = decide(room.history, len(driver.jobs), room.tokens)
    if not isinstance(decision.action, Stop):
        foretold = foretell(decision.survey, decision.action) if foretell and decision.survey else ()
        driver.begin(decision.action, foretold)
    return decision


def _trained(result: Result) -> float:
    return max((report.tokens for report in result.reports), default=result.job.start) - result.job.start


def _name(job: Job) -> str:
    return f"job {job.number}"
