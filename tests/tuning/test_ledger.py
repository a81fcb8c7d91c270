"""The budget holds: through concurrent reservations, failures, torn writes and restarts."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ground.errors import CorruptError, UserError
from tuning.ledger import BudgetError, Ledger

BUDGET = 1000


class LedgerMachine(RuleBasedStateMachine):
    """Two handles on one journal, as two processes would have, against a plain model of the account."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "ledger.jsonl"
        self.handles = [Ledger(self.path, BUDGET), Ledger(self.path, BUDGET)]
        self.open: dict[str, int] = {}
        self.settled = 0
        self.names = 0

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    @rule(handle=st.integers(0, 1), tokens=st.integers(1, 400))
    def reserve(self, handle: int, tokens: int) -> None:
        name = f"job {self.names}"
        self.names += 1
        fits = self.settled + sum(self.open.values()) + tokens <= BUDGET
        if fits:
            self.handles[handle].reserve(name, tokens)
            self.open[name] = tokens
        else:
            with pytest.raises(BudgetError):
                self.handles[handle].reserve(name, tokens)

    @precondition(lambda self: self.open)
    @rule(handle=st.integers(0, 1), data=st.data(), part=st.floats(0, 1))
    def settle(self, handle: int, data: st.DataObject, part: float) -> None:
        """A job ends, is stopped early or fails: only what it trained is charged."""
        name = data.draw(st.sampled_from(sorted(self.open)))
        trained = int(self.open.pop(name) * part)
        self.handles[handle].settle(name, trained, 1.5)
        self.settled += trained
        self.handles[handle].settle(name, trained)  # said twice after a lost answer: nothing changes

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def overcharge(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.open)))
        with pytest.raises(ValueError, match="cannot be charged"):
            self.handles[0].settle(name, self.open[name] + 1)

    @rule(torn=st.booleans())
    def restart(self, torn: bool) -> None:
        """The process dies, perhaps in the middle of a write, and another begins."""
        if torn:
            with open(self.path, "ab") as file:
                file.write(b'{"kind": "reserve", "job": "never')
        self.handles = [Ledger(self.path, BUDGET), Ledger(self.path, BUDGET)]

    @rule(part=st.floats(0, 1.2))
    def recover(self, part: float) -> None:
        """The search was killed: open jobs are charged by their last reports."""
        trained = {name: tokens * part for name, tokens in list(self.open.items())[::2]}
        charges = self.handles[0].recover(trained)
        assert set(charges) == set(self.open)
        assert all(charges[name] == min(trained.get(name, 0), self.open[name]) for name in charges)
        self.settled += sum(charges.values())
        self.open = {}

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "handles"):
            return
        for handle in self.handles:
            state = handle.state()
            assert state.settled + state.reserved <= BUDGET
            assert state.open == self.open
            assert state.settled == pytest.approx(self.settled)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


def test_concurrent_reservations_never_exceed_the_budget(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    granted: list[int] = []

    def work(number: int) -> None:
        ledger = Ledger(path, BUDGET)
        for i in range(8):
            try:
                ledger.reserve(f"{number}.{i}", 37)
                granted.append(37)
            except BudgetError:
                return

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) == Ledger(path, BUDGET).state().reserved == 37 * (BUDGET // 37)


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, BUDGET)
    ledger.reserve("a", 10)
    ledger.reserve("a", 10)
    assert ledger.state().reserved == 10
    with pytest.raises(ValueError, match="before"):
        ledger.reserve("a", 11)
    with pytest.raises(ValueError, match="no open"):
        ledger.settle("b", 1)
    with pytest.raises(UserError, match="begun with 1,000"):
        Ledger(path, BUDGET + 1)
    path.write_text(path.read_text() + "what\n")
    with pytest.raises(CorruptError, match="line 3"):
        ledger.state()


_WORKER = """
import sys
from pathlib import Path
from tuning.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), 10**6)
for i in range(10**6):
    ledger.reserve(f"job {i}", 7)
    print(i, flush=True)
    ledger.settle(f"job {i}", 5)
"""


@pytest.mark.slow
def test_a_killed_process_leaves_a_whole_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    worker = subprocess.Popen([sys.executable, "-c", _WORKER, str(path)], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    while int(worker.stdout.readline()) < 20:
        pass
    time.sleep(0.05)
    worker.kill()
    worker.wait()
    records = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    ledger = Ledger(path, 10**6)
    state = ledger.state()
    assert state.settled == 5 * sum(record["kind"] == "settle" for record in records)
    assert len(state.open) <= 1
    ledger.recover({})
    assert ledger.state().reserved == 0
