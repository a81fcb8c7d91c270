"""The command as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def steady(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `steady` in a folder. Where Ray gives its node 30 s to start and a busy machine needs more, run it again: nothing has
    begun then, and a user would do the same."""
    for _ in range(4):
        done = subprocess.run(
            [sys.executable, "-m", "cluster", *arguments],
            cwd=folder,
            env=dict(environment),
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        if "did not start on this machine" not in done.stderr:
            break
    return done
