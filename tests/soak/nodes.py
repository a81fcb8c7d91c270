"""A real Ray cluster of several nodes on this machine, of which single nodes and workers can be killed.

Every node is a ``ray start`` of its own. The head holds drivers and no worker; each other node has room for one worker, so
that a run's workers are spread and any of them can be lost with its node.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_START_SECONDS = 240
_TRIES = 3
_OBJECT_STORE_BYTES = 100 << 20
WORKER = "ray::RayTrainWorker"
"""How the title of a training worker's process begins."""
_OF_A_RUN = (WORKER, "ray::TrainController", "ray::Mailbox")


class Node:
    """One ``ray start --block`` with everything below it."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        ray = str(Path(sys.executable).with_name("ray"))
        command = [ray, "start", "--block", "--disable-usage-stats", f"--object-store-memory={_OBJECT_STORE_BYTES}"]
        with open(log, "w") as file:
            self._process = subprocess.Popen(
                [*command, *arguments], env=environment, stdout=file, stderr=file, start_new_session=True
            )
        self._log = log

    def wait_until_up(self) -> None:
        """Return once the node belongs to the cluster.

        Raises:
            RuntimeError: it ended or is not up in time.
        """
        end = time.monotonic() + _START_SECONDS
        while "Ray runtime started" not in self._log.read_text():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"a Ray node did not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.2)

    def processes(self, *titles: str) -> list[psutil.Process]:
        """Its processes, or those whose title begins with one of ``titles``."""
        try:
            below = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [process for process in below if not titles or _title(process).startswith(titles)]

    def kill(self) -> None:
        """SIGKILL to all of it, as when a machine loses its power."""
        doomed = self.processes()
        self._process.kill()
        for process in doomed:
            _kill(process)
        self._process.wait()
        psutil.wait_procs(doomed, timeout=10)


class Cluster:
    """The cluster. Make it with :func:`cluster`.

    Args:
        folder: for everything Ray writes.
        cpus: logical CPUs of each node but the head.
        dashboard: start the dashboard on the head, which the Jobs API needs; its address is ``dashboard``.
    """

    def __init__(self, folder: Path, *, cpus: int = 1, dashboard: bool = False) -> None:
        self.folder, self._started, self._cpus = folder, 0, cpus
        self._dashboard_port = _free_port() if dashboard else None
        self._port = _free_port()
        self.environment = os.environ | {
            "RAY_ADDRESS": f"127.0.0.1:{self._port}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_health_check_period_ms": "1000",  # a dead node is noticed in seconds
            "RAY_health_check_failure_threshold": "3",
            "RAY_raylet_start_wait_time_s": "120",  # the machine may be busy
        }
        self.head: Node | None = None
        self.nodes: list[Node] = []

    @property
    def dashboard(self) -> str:
        """URL of the dashboard and of the Jobs API."""
        assert self._dashboard_port is not None, "started without one"
        return f"http://127.0.0.1:{self._dashboard_port}"

    def start(self, workers: int) -> None:
        """Start the head and as many nodes as ``workers``.

        Raises:
            RuntimeError: one of them does not start.
        """
        shown = ["--include-dashboard=false"]
        if self._dashboard_port is not None:
            shown = ["--include-dashboard=true", f"--dashboard-port={self._dashboard_port}"]
        self.head = self._start("--head", f"--port={self._port}", "--num-cpus=0", *shown)
        self.head.wait_until_up()
        for _ in range(workers):
            self.nodes.append(self._start_node())
        for node in list(self.nodes):
            self.settle(node)

    def add(self, *arguments: str) -> None:
        """Start a node of another kind, and wait for it.

        Args:
            arguments: of ``ray start``, what it has.
        """
        self.nodes.append(self._start(f"--address={self.environment['RAY_ADDRESS']}", *arguments))
        self.nodes[-1].wait_until_up()

    def replace(self, node: Node) -> Node:
        """Kill a node and start another in its stead, without waiting for it."""
        self.nodes.remove(node)
        node.kill()
        self.nodes.append(self._start_node())
        return self.nodes[-1]

    def settle(self, node: Node) -> None:
        """Wait until a node is up. Ray gives a node's agents 15 s and no setting for it: on a busy machine it is tried again.

        Raises:
            RuntimeError: it never starts.
        """
        for _ in range(_TRIES):
            try:
                node.wait_until_up()
                return
            except RuntimeError:
                node = self.replace(node)
        node.wait_until_up()

    def left_of_runs(self) -> list[str]:
        """Titles of processes that belong to a run."""
        return [_title(process) for node in self._all() for process in node.processes(*_OF_A_RUN)]

    def stop(self) -> None:
        """Kill everything."""
        for node in reversed(self._all()):
            node.kill()

    def left(self) -> list[str]:
        """Command lines of processes that outlived the cluster."""
        found = []
        for process in psutil.process_iter():
            try:
                line = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if str(self.folder) in line or self.environment["RAY_ADDRESS"] in line:
                found.append(line[:200])
        return found

    def _all(self) -> list[Node]:
        return [*([self.head] if self.head else []), *self.nodes]

    def _start_node(self) -> Node:
        return self._start(f"--address={self.environment['RAY_ADDRESS']}", f"--num-cpus={self._cpus}")

    def _start(self, *arguments: str) -> Node:
        self._started += 1
        # Nodes of one machine that share this folder would give their sockets the same names.
        folder = self.folder / str(self._started)
        folder.mkdir()
        ports = [f"--dashboard-agent-listen-port={_free_port()}"]  # the default is one for the whole machine
        return Node([*arguments, *ports, f"--temp-dir={folder}"], self.environment, folder / "log")


@contextmanager
def cluster(workers: int = 2, *, cpus: int = 1, dashboard: bool = False) -> Iterator[Cluster]:
    """A cluster with room for ``workers`` workers on as many nodes; gone at the end, its files too.

    Args:
        cpus, dashboard: as of :class:`Cluster`.
    """
    folder = Path(tempfile.mkdtemp(prefix="soak-"))  # Ray's sockets need a short path
    started = Cluster(folder, cpus=cpus, dashboard=dashboard)
    try:
        started.start(workers)
        yield started
    finally:
        started.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
