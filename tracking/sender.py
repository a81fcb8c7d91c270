"""The thread between a spool and MLflow: batches, retries with back-off, never in the way of training."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from tracking.redact import redact
from tracking.spool import Record, Spool

Deliver = Callable[[Sequence[Record]], None]

_logger = logging.getLogger(__name__)


class UndeliverableError(Exception):
    """A record that MLflow will never take, so that waiting for better times is pointless."""


def drain(spool: Spool, deliver: Deliver) -> None:
    """Deliver everything the spool holds, in order.

    Raises:
        Exception: whatever ``deliver`` raised; what was not yet marked stays in the spool.
    """
    while True:
        records, end = spool.read()
        if not records:
            return
        present = [record for record in records if record]  # an empty one stands for an unreadable line
        try:
            deliver(present)
        except UndeliverableError:
            for record in present:
                _deliver_or_skip(record, deliver)
        spool.mark_sent(end, len(records))


def _deliver_or_skip(record: Record, deliver: Deliver) -> None:
    try:
        deliver([record])
    except UndeliverableError as error:
        _logger.warning("MLflow refuses a record, it stays only in the spool: %s", redact(str(error)))


class Sender:
    """Sends a spool in the background.

    Args:
        spool: what to send.
        deliver: sends records or raises; sending the same ones twice must be harmless.
        interval_s: pause after a batch, so that a fast training loop costs one transaction a pause, not one a step.
        first_wait_s, longest_wait_s: back-off after a failure; it doubles from the first to the longest.
    """

    def __init__(
        self,
        spool: Spool,
        deliver: Deliver,
        interval_s: float = 2.0,
        first_wait_s: float = 1.0,
        longest_wait_s: float = 60.0,
    ) -> None:
        self._spool, self._deliver = spool, deliver
        self._interval_s, self._first_wait_s, self._longest_wait_s = interval_s, first_wait_s, longest_wait_s
        self._work = threading.Event()
        self._closing = threading.Event()
        self._deadline = float("inf")
        # A daemon: a hanging connection must not keep the process alive, the spool keeps the records.
        self._thread = threading.Thread(target=self._run, name="tracking-sender", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something was appended."""
        self._work.set()

    def close(self, timeout_s: float) -> int:
        """Try to send the rest for up to ``timeout_s`` seconds, stop, and return how many records remain unsent."""
        self._deadline = time.monotonic() + timeout_s
        self._closing.set()
        self._work.set()
        self._thread.join(timeout_s)
        return self._spool.remaining

    def _run(self) -> None:
        wait_s = self._first_wait_s
        failing = False
        while True:
            if not failing and not self._closing.is_set():
                self._work.wait()
            self._work.clear()
            try:
                drain(self._spool, self._deliver)
            except Exception as error:  # noqa: BLE001 (the many ways a network, a server or a driver fails: none may stop training)
                if not failing:
                    _logger.warning(
                        "MLflow is out of reach (%s: %s); records are kept in %s and sent later",
                        type(error).__name__,
                        redact(str(error).partition("\n")[0][:300]),
                        self._spool.path,
                    )
                failing = True
            else:
                if failing:
                    _logger.warning("MLflow is back; kept records of %s have been sent", self._spool.folder)
                failing, wait_s = False, self._first_wait_s
            left_s = self._deadline - time.monotonic()
            if self._closing.is_set():
                # Records may have come between the last read and the closing: done is when nothing remains.
                if left_s <= 0 or (not failing and not self._spool.remaining):
                    return
                if failing:
                    time.sleep(min(self._first_wait_s, left_s))
            else:
                self._closing.wait(wait_s if failing else self._interval_s)
                wait_s = min(2 * wait_s, self._longest_wait_s) if failing else wait_s
