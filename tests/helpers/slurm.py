"""A real Slurm on machines of :mod:`tests.helpers.machines`: a controller and a node on each of the others."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from tests.helpers.machines import Machine, missing_for_machines

_DAEMONS = ("slurmctld", "slurmd", "munged", "sbatch")
_SECONDS = 60
# Everything that the daemons write lies in /tmp, which each machine has for itself.
_CONF = """\
ClusterName=test
SlurmctldHost={controller}
AuthType=auth/munge
AuthInfo=socket=/tmp/munge/socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=/tmp/slurm/state
SlurmdSpoolDir=/tmp/slurm/spool
SlurmctldPidFile=/tmp/slurm/slurmctld.pid
SlurmdPidFile=/tmp/slurm/slurmd.pid
SlurmctldLogFile=/tmp/slurm/slurmctld.log
SlurmdLogFile=/tmp/slurm/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
KillWait=30
SchedulerParameters=requeue_delay=5
NodeName={nodes} CPUs={cpus} RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing_for_slurm() -> str | None:
    """Why there can be none here; None when there can."""
    absent = [daemon for daemon in _DAEMONS if shutil.which(daemon) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (apt-get install slurm-wlm munge)"
    return missing_for_machines()


class Slurm:
    """Slurm, started.

    Args:
        controller: where jobs are sent from.
        nodes: where they run.
        folder: for logs.
        cpus: of each node.
    """

    def __init__(self, controller: Machine, nodes: list[Machine], folder: Path, *, cpus: int = 2) -> None:
        self._controller = controller
        self.environment = {"SLURM_CONF": "/tmp/slurm/slurm.conf"}
        conf = _CONF.format(controller=controller.name, nodes=",".join(node.name for node in nodes), cpus=cpus)
        self._daemons: list[subprocess.Popen[bytes]] = []
        for machine in (controller, *nodes):
            self._prepare(machine, conf, folder)
        self._start(controller, folder, "slurmctld", "-D")
        for node in nodes:
            self._start(node, folder, "slurmd", "-D", "-N", node.name)
        self._wait_for(len(nodes))

    def run(self, *command: str) -> str:
        """Run a command of Slurm's; what it prints.

        Raises:
            AssertionError: it failed.
        """
        done = self._controller.run(*command, **self.environment)
        assert done.returncode == 0, done.stdout
        return done.stdout.strip()

    def state(self, job: str) -> str:
        """Such as RUNNING; empty once Slurm has forgotten the job."""
        line = self.run("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")
        return line.split()[0] if line else ""

    def _prepare(self, machine: Machine, conf: str, folder: Path) -> None:
        for part in ("slurm/state", "slurm/spool", "munge"):
            machine.path(f"/tmp/{part}").mkdir(parents=True, mode=0o755)
        machine.path("/tmp/slurm/slurm.conf").write_text(conf)
        key = machine.path("/tmp/munge/key")
        key.write_bytes(b"one key for all machines of a test" * 4)
        key.chmod(0o600)
        munge = ["--force", "--foreground", "--socket=/tmp/munge/socket", "--key-file=/tmp/munge/key"]
        files = [f"--{name}-file=/tmp/munge/{name}" for name in ("pid", "log", "seed")]
        self._start(machine, folder, "munged", *munge, *files)

    def _start(self, machine: Machine, folder: Path, *command: str) -> None:
        log = folder / f"{command[0]}-{machine.name}"
        self._daemons.append(machine.start(*command, log=log, **self.environment))

    def _wait_for(self, nodes: int) -> None:
        end = time.monotonic() + _SECONDS
        while True:
            done = self._controller.run("sinfo", "--noheader", "--Node", "--format=%t", **self.environment)
            if done.returncode == 0 and done.stdout.split().count("idle") == nodes:
                return
            assert time.monotonic() < end, f"Slurm does not start: {done.stdout}"
            time.sleep(0.5)
