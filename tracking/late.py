"""A store that does not answer when a run begins: what is recorded waits on disk, and every attempt to send it tries again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ground.errors import UserError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

PENDING = ""
"""Id of the experiment while nobody could be asked for it."""
_AGAIN_S = 10.0
"""After a failure nobody asks for so long: an attempt can block its caller for seconds."""


class LateClient:
    """Stands for an ``MlflowClient``: opens the store and the experiment at the first call that finds them.

    Until then every call raises the UserError of the last attempt.
    """

    def __init__(self, open_store: Callable[[], tuple[MlflowClient, str]], problem: UserError) -> None:
        self._open, self._problem = open_store, problem
        self._opened: tuple[MlflowClient, str] | None = None
        self._failed_at = time.monotonic()
        self._guard = threading.Lock()

    @property
    def answered(self) -> bool:
        """Whether the store has been opened."""
        return self._opened is not None

    def create_run(self, experiment_id: str, *args: Any, **kwargs: Any) -> Any:
        """As ``MlflowClient``'s; ``PENDING`` is the experiment."""
        client, ours = self._now()
        return client.create_run(experiment_id or ours, *args, **kwargs)

    def search_runs(self, experiment_ids: Sequence[str], *args: Any, **kwargs: Any) -> Any:
        """As ``MlflowClient``'s; ``PENDING`` is the experiment."""
        client, ours = self._now()
        return client.search_runs([one or ours for one in experiment_ids], *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._now()[0], name)

    def _now(self) -> tuple[MlflowClient, str]:
        with self._guard:
            if self._opened is None:
                if time.monotonic() < self._failed_at + _AGAIN_S:
                    raise self._problem
                try:
                    self._opened = self._open()
                except UserError as problem:
                    self._problem, self._failed_at = problem, time.monotonic()
                    raise
            return self._opened
