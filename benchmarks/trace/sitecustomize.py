"""Time stamps of start-up: Python imports this file first in every process whose PYTHONPATH has its folder.

Each process appends lines ``<seconds since the epoch> <process> <event>`` to the file that ``STEADY_BENCHMARK_TRACE``
names: its own start, and the moment each of a few modules is first looked for. One write a line, so that processes can
share the file.
"""

from __future__ import annotations

import os
import sys
import time

_WATCHED = {"mlflow", "ray", "ray.train", "torch", "transformers", "deepspeed", "training.launch", "training.loop"}


def _note(event: str) -> None:
    os.write(_FILE, f"{time.time():.3f} {os.getpid()} {event}\n".encode())


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "import" and arguments[0] in _WATCHED:
        _note(f"import {arguments[0]}")
    elif event == "subprocess.Popen" and "gcs_server" in str(arguments[0]):
        _note("ray.init")


if path := os.environ.get("STEADY_BENCHMARK_TRACE"):
    _FILE = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    _note(f"start {' '.join(sys.orig_argv[1:4])[-60:]}")
    sys.addaudithook(_watch)
