"""The ledger: what a search has spent, promised and left. Reserve before a job, settle after it, release what was not used.

Invariant, at every moment and through any crash: settled + reserved <= budget. A reservation is refused when it does not fit;
a settlement is never more than its reservation, since a job trains no more steps than were reserved (reservations are in whole
steps). After a crash the open reservations of dead jobs are settled with what their last report or checkpoint shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ground.errors import UserError
from tuning.journal import Journal, Record


class BudgetError(UserError):
    """A reservation that does not fit."""


@dataclass(frozen=True)
class State:
    """Tokens of a search at one moment."""

    budget: float
    settled: float
    reserved: float
    device_seconds: float
    """Of settled jobs, all devices together."""
    open: Mapping[str, float]
    """Reserved tokens by the name of the job."""

    @property
    def left(self) -> float:
        """Tokens that can still be reserved."""
        return self.budget - self.settled - self.reserved


class Ledger:
    """One search's account.

    Args:
        path: its journal; None keeps it in memory.
        budget: tokens. A journal that is there keeps the budget it was begun with.

    Raises:
        UserError: the journal was begun with another budget.
    """

    def __init__(self, path: Path | None, budget: float) -> None:
        self._budget: float | None = None
        self._settled = self._seconds = 0.0
        self._open: dict[str, float] = {}
        self._charged: dict[str, float] = {}
        self._journal = Journal(path, self._apply)
        self._journal.append(lambda: None if self._budget is not None else {"kind": "open", "budget": float(budget)})
        if self._budget != budget:
            raise UserError("tuning.budget", f"is {budget:,.0f} tokens, the search was begun with {self._budget:,.0f}",
                            "keep it, or start another search")  # fmt: skip

    def state(self) -> State:
        """The account now, writes of other processes included."""
        self._journal.refresh()
        return self._state()

    def names(self) -> set[str]:
        """All jobs that ever reserved."""
        self._journal.refresh()
        return {*self._open, *self._charged}

    def charged(self) -> dict[str, float]:
        """Tokens settled, by job."""
        self._journal.refresh()
        return dict(self._charged)

    def reserve(self, job: str, tokens: float, note: Mapping[str, Any] | None = None) -> None:
        """Promise tokens to a job. Asking again for an open job with the same tokens changes nothing.

        Args:
            job: a name that is used once.
            note: anything for the report: trial, rung, predicted seconds.

        Raises:
            BudgetError: it does not fit.
            ValueError: not a positive amount, or the name was used before.
        """
        if not tokens > 0:
            raise ValueError(f"cannot reserve {tokens} tokens")

        def make() -> Record | None:
            if self._open.get(job) == tokens:
                return None
            if job in self._open or job in self._charged:
                raise ValueError(f"{job!r} was reserved before")
            left = self._state().left
            if tokens > left:
                raise BudgetError("tuning.budget", f"{job} needs {tokens:,.0f} tokens, {left:,.0f} of {self._budget:,.0f} "
                                  "are left", "raise tuning.budget or lower tuning.run_budget")  # fmt: skip
            return {"kind": "reserve", "job": job, "tokens": float(tokens), **({"note": dict(note)} if note else {})}

        self._journal.append(make)

    def settle(self, job: str, tokens: float, device_seconds: float = 0.0) -> None:
        """Charge what a job trained and release the rest. Settling a job again with the same tokens changes nothing.

        Raises:
            ValueError: more than was reserved, not reserved, or settled with another amount.
        """

        def make() -> Record | None:
            if self._charged.get(job) == tokens:
                return None
            if job not in self._open:
                raise ValueError(f"{job!r} has no open reservation")
            if not 0 <= tokens <= self._open[job]:
                raise ValueError(f"{job!r} reserved {self._open[job]:,.0f} tokens and cannot be charged {tokens:,.0f}")
            return {"kind": "settle", "job": job, "tokens": float(tokens), "seconds": float(device_seconds)}

        self._journal.append(make)

    def recover(self, trained: Mapping[str, float]) -> dict[str, float]:
        """After a restart: settle every open reservation with what was really trained.

        Args:
            trained: tokens by job, from last reports and checkpoints; a job that is absent trained nothing.

        Returns:
            What was charged, by job.
        """
        charges = {job: min(trained.get(job, 0.0), reserved) for job, reserved in sorted(self.state().open.items())}
        for job, tokens in charges.items():
            self.settle(job, tokens)
        return charges

    def _state(self) -> State:
        assert self._budget is not None
        return State(self._budget, self._settled, sum(self._open.values()), self._seconds, dict(self._open))

    def _apply(self, record: Record) -> None:
        if record["kind"] == "open":
            self._budget = record["budget"]
        elif record["kind"] == "reserve":
            self._open[record["job"]] = record["tokens"]
        else:
            del self._open[record["job"]]
            self._charged[record["job"]] = record["tokens"]
            self._settled += record["tokens"]
            self._seconds += record["seconds"]
