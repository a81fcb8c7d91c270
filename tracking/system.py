"""System metrics of a run (CPU, memory, disk, network, GPU) under the names MLflow's own monitor uses.

MLflow's ``SystemMetricsMonitor`` asks the server at every sample and ends for good at its first failure; here the
samples go through the run's spool like everything else, so that an outage neither stops nor delays them. The node of the
command is ``system/<what>``; every other node N is ``system/node_<N>/<what>``, a section of its own in MLflow.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

_PREFIX = "system/"

_MONITORS = (
    ("cpu_monitor", "CPUMonitor"),
    ("disk_monitor", "DiskMonitor"),
    ("network_monitor", "NetworkMonitor"),
    ("gpu_monitor", "GPUMonitor"),
)
_logger = logging.getLogger(__name__)


class SystemMonitor:
    """Samples this node every ``interval_s`` seconds in a thread and passes ``{"system/...": value}`` on.

    A device that cannot be read (no psutil, no NVIDIA library, no permission) is left out. The thread also loads MLflow,
    which takes a second or two, so that nobody waits for it.
    """

    def __init__(self, emit: Callable[[dict[str, float]], None], interval_s: float = 10.0) -> None:
        self._emit, self._interval_s = emit, interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tracking-system", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop sampling; at most one sample may still be under way."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        monitors = [monitor for name in _MONITORS if (monitor := _open(*name)) is not None]
        while monitors and not self._stop.is_set():
            sample: dict[str, float] = {}
            for monitor in list(monitors):
                try:
                    monitor.collect_metrics()
                    sample.update({f"{_PREFIX}{name}": float(v) for name, v in monitor.aggregate_metrics().items()})
                    monitor.clear_metrics()
                except Exception as error:  # noqa: BLE001 (drivers and /proc fail in their own ways; a sample is not worth a run)
                    _logger.info("no more system metrics from %s: %s", type(monitor).__name__, error)
                    monitors.remove(monitor)
            if sample:
                self._emit(sample)
            if self._stop.wait(self._interval_s):
                return


class SystemMetrics:
    """The system metrics of one run as records: its own node's and those that other nodes send.

    The axis is the number of the sample on its node, which goes on after a resume.

    Args:
        append: takes a record.
        last_index: the largest axis value recorded for names that begin so, or None.
    """

    def __init__(self, append: Callable[[Mapping[str, Any]], object], last_index: Callable[[str], int | None]) -> None:
        self._append, self._last_index = append, last_index
        self._next: dict[str, int] = {}
        self._monitor: SystemMonitor | None = None

    def start(self, interval_s: float) -> None:
        """Sample this node from now on."""
        if self._monitor is None:
            self._monitor = SystemMonitor(partial(self.add, None), interval_s)

    def stop(self) -> None:
        """Sample no more."""
        if self._monitor is not None:
            self._monitor.stop()

    def add(self, node: int | None, sample: Mapping[str, float]) -> None:
        """Record a sample of another node, or of this one (None)."""
        prefix = _PREFIX if node is None else f"{_PREFIX}node_{node}/"
        if prefix not in self._next:
            last = self._last_index(prefix)
            self._next[prefix] = 0 if last is None else last + 1
        metrics = {f"{prefix}{name.removeprefix(_PREFIX)}": value for name, value in sample.items()}
        self._append({"tokens": self._next[prefix], "time_ms": int(time.time() * 1000), "metrics": metrics})
        self._next[prefix] += 1


def _open(module: str, name: str) -> Any:
    try:
        return getattr(import_module(f"mlflow.system_metrics.metrics.{module}"), name)()
    except Exception as error:  # noqa: BLE001 (no library, no device, no permission: each raises its own kind)
        _logger.debug("no system metrics from %s: %s", name, error)
        return None
