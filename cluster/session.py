"""The Ray session: a local one that starts by itself, or a cluster by address."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray

from ground.errors import UserError

STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"
"""Variable from which a Ray job's supervisor learns how many seconds lie between SIGTERM and SIGKILL."""
STOP_SECONDS = 600
"""Enough for a step and the checkpoint of a large model; Ray's default is 3."""
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
_ANSWER_SECONDS = 10

_ROOT = Path(__file__).resolve().parent.parent
_STARTS = 3  # Ray gives its own processes 30 s, which is short on a busy machine
_SPARE_CPUS = 2  # logical CPUs beyond the cores: Ray Data stands still, silently, when actors take every one
_OBJECT_STORE_BYTES = 1 << 30  # local runs keep little in the object store; the default takes 30 % of memory

_WORKER_ENVIRONMENT = {
    # Spinning OpenMP threads of several processes starve each other (5 to 15 times slower on few cores).
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "RAYON_NUM_THREADS": "1",  # Rust libraries (MinHash, BPE) would start a thread a core in every worker
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
}


@contextmanager
def session(address: str | None = None, *, cpus: int | None = None) -> Iterator[None]:
    """Connect to the cluster at ``address`` (or ``RAY_ADDRESS``), else start Ray on this machine, and disconnect at the end.

    Args:
        cpus: logical CPUs of a Ray started here; absent: the cores and two more.

    Raises:
        UserError: no cluster answers at the address.
    """
    if ray.is_initialized():  # inside a Ray job's own driver, or a test that shares one session
        yield
        return
    job = _job_of_this_process()
    # A job runs on the cluster it was submitted to, whatever address the recipe has for those outside.
    address = os.environ.get("RAY_ADDRESS") if job else address or os.environ.get("RAY_ADDRESS")
    for name, value in _WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        if address:
            given = ((job or {}).get("runtime_env") or {}).get("env_vars") or {}  # Ray refuses to be told twice
            environment = {name: os.environ[name] for name in _WORKER_ENVIRONMENT if name not in given}
            ray.init(address=address, runtime_env={"env_vars": environment}, logging_level=logging.WARNING)
            if job and STOP_WAIT not in given:
                _leave_time_to_stop(str(job.get("metadata", {}).get("job_submission_id")))
        else:
            _start_local(cpus)
    except ConnectionError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            "cluster.address", f"no Ray cluster answers at {address!r} ({reason})", "start it or leave it out"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def resources_at(address: str) -> dict[str, float]:
    """What the cluster at ``address`` has, by resource name.

    Raises:
        UserError: no cluster answers there.
    """
    with session(address):
        return dict(ray.cluster_resources())  # type: ignore[no-untyped-call]  # Ray's own lacks types


def _job_of_this_process() -> dict[str, Any] | None:
    """What Ray tells the driver of a submitted job; None elsewhere."""
    told = os.environ.get(_JOB)
    return dict(json.loads(told)) if told else None


def _leave_time_to_stop(job: str) -> None:
    """Let `ray job stop` wait for a checkpoint, where nothing was said about it when the job was submitted."""

    def set_default(_: Any, name: str, seconds: str) -> None:
        os.environ.setdefault(name, seconds)  # the head's own setting stays

    # The names are Ray's own and no promise of it: without them the job runs all the same.
    with suppress(ValueError, ray.exceptions.RayError):
        supervisor: Any = ray.get_actor(f"_ray_internal_job_actor_{job}", namespace="SUPERVISOR_ACTOR_RAY_NAMESPACE")
        told = supervisor.__ray_call__.remote(set_default, STOP_WAIT, str(STOP_SECONDS))
        ray.get(told, timeout=_ANSWER_SECONDS)


def _start_local(cpus: int | None) -> None:
    # Inherited by every worker; a runtime environment would keep Ray from using the workers it has started already.
    paths = [str(_ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # no one takes this machine away: a process less
    for attempt in range(_STARTS):
        try:
            ray.init(
                num_cpus=cpus or len(os.sched_getaffinity(0)) + _SPARE_CPUS,
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=bool(os.environ.get("STEADY_WORKER_LOGS")),
                object_store_memory=_OBJECT_STORE_BYTES,
                configure_logging=True,
            )
            break
        except Exception as error:  # Ray raises no class of its own here
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            if attempt == _STARTS - 1:
                raise UserError(
                    "ray",
                    f"did not start on this machine within 30 s, {_STARTS} times",
                    "it may be overloaded: try again",
                ) from None
    sys.stdout.flush()
