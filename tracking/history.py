"""Reading back what a run recorded, from its own folder: no server is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

History = dict[str, list[tuple[int, float]]]
"""Metric name -> (tokens seen, value), tokens ascending."""


def read_history(folder: Path) -> History:
    """All metrics of the run of ``folder`` (empty when it recorded nothing). Safe while the run goes on.

    A point recorded twice counts once, with its last value.
    """
    points: dict[str, dict[int, float]] = {}
    path = folder / "spool.jsonl"
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            record: dict[str, Any] = json.loads(line)
        except ValueError:  # the last line of a run that is being written or was killed
            continue
        for name, value in record.get("metrics", {}).items():
            points.setdefault(name, {})[int(record["tokens"])] = float(value)
    return {name: sorted(curve.items()) for name, curve in points.items()}
