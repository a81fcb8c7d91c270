"""Machines of their own on this one: each with an address, a host name, processes, a home and a /tmp that no other one sees.

Namespaces of the kernel, so this needs Linux and root. What some of them share is one folder, under a name that only they know,
as a network file system would give it.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

SHARED = "/mnt/shared"
"""Where a machine sees the shared folder."""
HOME = "/tmp/home"
"""Where a machine has the home of its user."""

_TOOLS = ("ip", "unshare", "nsenter", "mount")
_READY = "ready"
_SECONDS = 30
# What every machine must see of this one, wherever it lies: Steady, its Python, and the Python behind that.
_KEPT = (str(Path(__file__).parents[2]), sys.prefix, sys.base_prefix)
_numbers = itertools.count(os.getpid() % 200)

# The first process of a machine buries those whose parents are gone.
_INIT = """
import os, time
while True:
    try:
        os.wait()
    except ChildProcessError:
        time.sleep(0.5)
"""
# $1: its name, $2: hosts file, $3: folder to share or nothing, $4: Python, the rest: what it keeps of this machine.
_BOOT = f"""
set -e
name=$1 hosts=$2 shared=$3 python=$4; shift 4
mount -t tmpfs tmpfs /mnt
[ -z "$shared" ] || {{ mkdir {SHARED}; mount --bind "$shared" {SHARED}; }}
i=0; for path; do i=$((i+1)); mkdir -p /mnt/kept/$i; mount --rbind "$path" /mnt/kept/$i; done
mount --bind "$hosts" /etc/hosts
mount --bind /dev/null /etc/resolv.conf  # the name server out there would be waited for
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /dev/shm
i=0; for path; do i=$((i+1)); [ -e "$path" ] || {{ mkdir -p "$path"; mount --rbind /mnt/kept/$i "$path"; }}; done
mkdir {HOME}
hostname "$name"
ip link set lo up
echo {_READY}
exec "$python" -S -c '{_INIT}'
"""


def missing_for_machines() -> str | None:
    """Why there can be none here; None when there can."""
    absent = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    tried = subprocess.run(["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "true"], check=False)
    return "needs root, to make namespaces" if tried.returncode else None


class Machine:
    """One machine, switched on. Make it with :meth:`Network.machine`."""

    def __init__(self, name: str, address: str, hosts: Path, shared: Path | None) -> None:
        self.name, self.address = name, address
        apart = ["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
        boot = ["sh", "-c", _BOOT, "boot", name, str(hosts), str(shared or ""), sys.executable, *dict.fromkeys(_KEPT)]
        self._holder = subprocess.Popen(
            ["unshare", *apart, "--propagation", "private", *boot], stdout=subprocess.PIPE, text=True
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline().strip() != _READY:
            raise RuntimeError(f"{name} does not boot")
        (self._init,) = psutil.Process(self._holder.pid).children()

    @property
    def network(self) -> str:
        """What ``ip link set ... netns`` takes."""
        return str(self._holder.pid)

    def path(self, path: str) -> Path:
        """A file of the machine, as it is seen from here."""
        return Path(f"/proc/{self._init.pid}/root{path}")

    def copy(self, folder: Path, to: str) -> None:
        """Put what lies in ``folder`` into a folder of the machine."""
        shutil.copytree(folder, self.path(to), dirs_exist_ok=True)

    def line(self, *command: str) -> list[str]:
        """The command line that runs ``command`` on this machine, in its home."""
        inside = ["nsenter", "--target", str(self._init.pid), "--net", "--mount", "--uts", "--ipc", "--pid"]
        return [*inside, "env", "--chdir", HOME, f"HOME={HOME}", *command]

    def run(self, *command: str, seconds: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; its errors stand in ``stdout`` too."""
        return subprocess.run(
            self.line(*command),
            env=_environment(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )

    def start(self, *command: str, log: Path, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command that writes to ``log``."""
        with open(log, "wb") as file:
            return subprocess.Popen(self.line(*command), env=_environment(environment), stdout=file, stderr=file)

    def lose_power(self) -> None:
        """All its processes are gone at once, and its address with them."""
        if self._holder.poll() is None:
            self._init.send_signal(signal.SIGKILL)
            self._holder.wait(_SECONDS)
            assert self._holder.stdout is not None
            self._holder.stdout.close()


class Network:
    """Machines that reach each other and this one, and nothing else. Make it with :func:`network`.

    Args:
        folder: for what they share.
        names: of the machines that may join, in the order of their addresses.
        loopback_names: each machine's own name means 127.0.1.1 there, as Debian installs it.
    """

    def __init__(self, folder: Path, names: Sequence[str], *, loopback_names: bool) -> None:
        self.shared = folder / "shared"
        self.shared.mkdir()
        number = next(_numbers)
        self._folder, self._bridge = folder, f"steady{number}"
        self._addresses = {name: f"10.213.{number}.{10 + i}" for i, name in enumerate(names)}
        self._loopback_names = loopback_names
        self.machines: list[Machine] = []
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"10.213.{number}.1/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")

    def machine(self, name: str, *, shares: bool = True) -> Machine:
        """Switch one on.

        Args:
            shares: whether it has the shared folder.
        """
        address = self._addresses[name]
        own = ("127.0.1.1" if self._loopback_names else address, name)
        others = [(other, n) for n, other in self._addresses.items() if n != name]
        hosts = self._folder / f"{name}.hosts"
        hosts.write_text("".join(f"{where} {called}\n" for where, called in [("127.0.0.1", "localhost"), own, *others]))
        machine = Machine(name, address, hosts, self.shared if shares else None)
        self.machines.append(machine)
        cable = f"{self._bridge}-{len(self.machines)}"
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", machine.network)
        _ip("link", "set", cable, "master", self._bridge, "up")
        for setting in (
            ["addr", "add", f"{address}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
            ["route", "add", "default", "dev", "eth0"],  # leads nowhere, but programs ask for it to learn their address
        ):
            done = machine.run("ip", *setting)
            assert done.returncode == 0, done.stdout
        return machine

    def close(self) -> None:
        """Switch all off."""
        for machine in self.machines:
            machine.lose_power()
        _ip("link", "del", self._bridge)


@contextmanager
def network(*names: str, loopback_names: bool = False) -> Iterator[Network]:
    """A network for machines of these names; gone at the end, its files too.

    Args:
        loopback_names: as of :class:`Network`.
    """
    folder = Path(tempfile.mkdtemp(prefix="machines-"))
    made = Network(folder, names, loopback_names=loopback_names)
    try:
        yield made
    finally:
        made.close()
        time.sleep(0.1)
        shutil.rmtree(folder, ignore_errors=True)


def _environment(more: dict[str, str]) -> dict[str, str]:
    """Little of this machine's environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    kept = {name: os.environ[name] for name in ("LANG", "PYTHONDONTWRITEBYTECODE") if name in os.environ}
    return {"PATH": path, "OMP_NUM_THREADS": "1"} | kept | more


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
