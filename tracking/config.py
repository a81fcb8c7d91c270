"""The recipe section ``tracking``: where runs are recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from ground.config import Section


class TrackingConfig(Section):
    """Where runs are recorded. The defaults need no server: one SQLite file in the recipe's work folder."""

    uri: str | None = None
    """MLflow tracking URI: ``http(s)://`` (a server), ``sqlite:///`` or ``postgresql://``. Absent: a SQLite file
    ``mlflow.db`` in the work folder. Credentials belong in ``MLFLOW_TRACKING_USERNAME`` and ``_PASSWORD``."""
    experiment: str | None = None
    """Name of the MLflow experiment. Absent: the recipe's name."""
    system_metrics: bool = True
    """Record CPU, memory, disk, network and GPU use beside each run."""
    system_metrics_interval_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds between two samples of the system metrics."""

    def resolved_uri(self, work: Path) -> str:
        """The tracking URI to open, given the recipe's work folder."""
        return self.uri if self.uri is not None else f"sqlite:///{(work / 'mlflow.db').resolve()}"
