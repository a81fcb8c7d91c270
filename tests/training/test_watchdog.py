"""The watchdog barks when nothing moves, and only then."""

from __future__ import annotations

import threading
import time

import pytest

from training.watchdog import EXIT_CODE, Watchdog


def test_silence_ends_the_process_with_a_reason(capfd: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    codes: list[int] = []
    ended = threading.Event()

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    with Watchdog(0.2, said.append, end=end) as dog:
        dog.tick("step 7")
        assert ended.wait(30)
    assert codes == [EXIT_CODE]
    assert "(step 7)" in said[0] and "no progress" in said[0]
    assert "test_silence_ends_the_process" in capfd.readouterr().err  # where the threads stand


def test_progress_keeps_it_quiet() -> None:
    said: list[str] = []
    with Watchdog(5.0, said.append, end=lambda _: None) as dog:
        for step in range(10):
            dog.tick(f"step {step}")
            time.sleep(0.02)
    assert not said
