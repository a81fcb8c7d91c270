"""Freed memory stays with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys, threading
import psutil
from training.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def work():
    before = psutil.Process().memory_info().rss
    blocks = [bytearray(4 << 20) for _ in range(12)]
    del blocks
    print(psutil.Process().memory_info().rss - before)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
def test_a_thread_keeps_what_it_freed() -> None:
    def left(mode: str) -> int:
        done = subprocess.run([sys.executable, "-c", CODE, mode], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert left("keep") > (40 << 20) > left("leave")
