"""System metrics of a run (CPU, memory, disk, network, GPU) under the names MLflow's own monitor uses.

MLflow's ``SystemMetricsMonitor`` asks the server at every sample and ends for good at its first failure; here the
samples go through the run's spool like everything else, so that an outage neither stops nor delays them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any

_MONITORS = (
    ("cpu_monitor", "CPUMonitor"),
    ("disk_monitor", "DiskMonitor"),
    ("network_monitor", "NetworkMonitor"),
    ("gpu_monitor", "GPUMonitor"),
)
_logger = logging.getLogger(__name__)


class SystemMonitor:
    """Samples every ``interval_s`` seconds in a thread and passes ``{"system/...": value}`` on.

    A device that cannot be read (no psutil, no NVIDIA library, no permission) is left out.
    """

    def __init__(self, emit: Callable[[dict[str, float]], None], interval_s: float = 10.0) -> None:
        self._emit, self._interval_s = emit, interval_s
        self._monitors = [monitor for name in _MONITORS if (monitor := _open(*name)) is not None]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tracking-system", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop sampling; at most one sample may still be under way."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while self._monitors:
            sample: dict[str, float] = {}
            for monitor in list(self._monitors):
                try:
                    monitor.collect_metrics()
                    sample.update({f"system/{name}": float(v) for name, v in monitor.aggregate_metrics().items()})
                    monitor.clear_metrics()
                except Exception as error:  # noqa: BLE001 (drivers and /proc fail in their own ways; a sample is not worth a run)
                    _logger.info("no more system metrics from %s: %s", type(monitor).__name__, error)
                    self._monitors.remove(monitor)
            if sample:
                self._emit(sample)
            if self._stop.wait(self._interval_s):
                return


def _open(module: str, name: str) -> Any:
    try:
        return getattr(import_module(f"mlflow.system_metrics.metrics.{module}"), name)()
    except Exception as error:  # noqa: BLE001 (no library, no device, no permission: each raises its own kind)
        _logger.debug("no system metrics from %s: %s", name, error)
        return None
