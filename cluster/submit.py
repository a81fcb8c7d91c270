"""The Jobs API of a Ray cluster: who answers, what an upload would hold, a look at every node, jobs started and followed.

The only module of this room beside ``session.py`` that imports Ray.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import secrets
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, no_type_check

import ray.exceptions
from ray.job_submission import JobDetails, JobSubmissionClient, JobType

from cluster import probe
from cluster.dashboard import accepted_headers, ask
from cluster.session import STOP_SECONDS, STOP_WAIT
from ground.errors import UserError
from tracking.redact import redact

__all__ = ["JobDetails", "JobSubmissionClient"]  # for those who must not import Ray themselves

_LOST_SECONDS = 120
_LOOK_SECONDS = 300
_POLL_SECONDS = 0.5
_HELPERS = ("steady-preflight-", "steady-kill-")
_SCRIPT = "from typing import no_type_check\n\n\n{}\n\n_main_of_the_look()\n"
_MARK = "STEADY-PREFLIGHT "
_DEFAULT = "http://127.0.0.1:8265"
_NAMES_OF_ADDRESS = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_NOISY = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private.runtime_env")

for _name in _NOISY:  # they tell every ignore file and every upload
    logging.getLogger(_name).setLevel(logging.ERROR)


def connect(address: str | None = None) -> JobSubmissionClient:
    """A client of the Jobs API that has answered.

    Args:
        address: URL of the dashboard, ``host:port``, or what Ray takes; absent: ``RAY_API_SERVER_ADDRESS``, ``RAY_ADDRESS``,
            a cluster on this machine.

    Raises:
        UserError: nobody answers there, or the cluster asks for a token that is not here or refuses it.
    """
    url = _dashboard(address)
    headers = accepted_headers(url)
    with told(url), _environment_without(*_NAMES_OF_ADDRESS):  # either would beat the address given
        return JobSubmissionClient(url, headers=headers)


@contextmanager
def told(url: str) -> Iterator[None]:
    """Turn what Ray's client raises into one line, without credentials.

    Raises:
        UserError: the request failed.
    """
    try:
        yield
    except (RuntimeError, OSError, ray.exceptions.RayError) as error:
        reason = redact(" ".join(str(error).split()))[:300] or type(error).__name__
        raise UserError("--address", f"{redact(url)}: {reason}", "check the cluster and its dashboard") from None


def upload_listing(folder: Path, excludes: Sequence[str]) -> dict[str, int]:
    """Path -> bytes of all that Ray would upload of a working directory, by its own rules (``.gitignore``, ``.rayignore``,
    its default excludes and ``excludes``)."""
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    root = folder.absolute()
    found: dict[str, int] = {}

    def take(path: Path) -> None:
        if path.is_file():
            found[path.relative_to(root).as_posix()] = path.stat().st_size

    left_out = _get_excludes(root, [*get_runtime_env_default_excludes(), *excludes])
    with_gitignore = os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "0") != "1"
    _dir_travel(root, [left_out], take, include_gitignore=with_gitignore)
    return found


def look_at_nodes(client: JobSubmissionClient, asked: Mapping[str, Any], python: str) -> dict[str, Any]:
    """Run ``probe.py`` on every node, as a small job that takes no CPU.

    Args:
        asked: as of :func:`cluster.probe.look`.
        python: command that starts Python on the nodes.

    Returns:
        ``nodes`` (what each told), ``unseen`` (node -> nodes whose marks it does not see), ``silent`` (nodes that told
        nothing) and ``resources`` of the cluster.

    Raises:
        UserError: the job failed or did not end in time.
    """
    with tempfile.TemporaryDirectory(prefix="steady-preflight-") as folder:
        _write_look(Path(folder))
        job = f"{_HELPERS[0]}{secrets.token_hex(4)}"
        told_to = shlex.quote(json.dumps(dict(asked)))
        with told(client.get_address()):
            client.submit_job(
                entrypoint=f"{python} preflight.py {told_to}", runtime_env={"working_dir": folder}, submission_id=job
            )
    try:
        return _answer_of(client, job, python)
    finally:
        with suppress(RuntimeError, OSError):
            _end(client, job)


def start(
    client: JobSubmissionClient,
    entrypoint: Sequence[str],
    folder: Path,
    excludes: Sequence[str],
    job: str,
    metadata: Mapping[str, str],
) -> None:
    """Upload ``folder`` and start a job in it that is given time to stop.

    Args:
        job: the id to give it.

    Raises:
        UserError: the cluster refused.
    """
    environment = {STOP_WAIT: str(STOP_SECONDS)}
    with told(client.get_address()):
        client.submit_job(
            entrypoint=shlex.join(entrypoint),
            runtime_env={"working_dir": str(folder), "excludes": list(excludes), "env_vars": environment},
            submission_id=job,
            metadata=dict(metadata),
        )


def jobs(client: JobSubmissionClient) -> list[JobDetails]:
    """All jobs that were submitted, the newest first, without the checks before them."""
    with told(client.get_address()):
        found = [job for job in client.list_jobs() if job.type == JobType.SUBMISSION]
        found = [job for job in found if not str(job.submission_id).startswith(_HELPERS)]
    return sorted(found, key=lambda job: job.start_time or 0, reverse=True)


def details(client: JobSubmissionClient, job: str) -> JobDetails:
    """One job.

    Raises:
        UserError: there is none of this id.
    """
    known = {str(one.submission_id): one for one in jobs(client)}
    if job not in known:
        raise UserError("JOB", f"there is no job {job!r} on {client.get_address()}", "see `steady jobs list`")
    return known[job]


def follow(
    client: JobSubmissionClient, job: str, write: Callable[[str], object], *, skip: int = 0, pause: float = 1
) -> str:
    """Pass on the log of a job until it ends, through broken connections too.

    Args:
        skip: characters of the log not to pass on.
        pause: seconds before a broken connection is made again.

    Returns:
        Its last status: ``SUCCEEDED``, ``FAILED`` or ``STOPPED``.

    Raises:
        UserError: the cluster cannot be reached any more; the job may go on.
    """
    return asyncio.run(_follow(client, job, write, skip, pause))


async def _follow(
    client: JobSubmissionClient, job: str, write: Callable[[str], object], seen: int, pause: float
) -> str:
    import aiohttp

    reached = time.monotonic()
    while True:
        with suppress(RuntimeError, OSError, aiohttp.ClientError):
            position = 0  # a new connection begins at the start of the log
            async for text in client.tail_job_logs(job):
                if position + len(text) > seen:
                    write(text[max(0, seen - position) :])
                position += len(text)
                seen = max(seen, position)
        try:
            status = client.get_job_status(job)
            if status.is_terminal():
                write(client.get_job_logs(job)[seen:])
                return str(status.value)
            reached = time.monotonic()
        except (RuntimeError, OSError):
            if time.monotonic() - reached > _LOST_SECONDS:
                problem = f"{client.get_address()} has not answered for {_LOST_SECONDS} s; the job may go on"
                raise UserError(
                    "--address", problem, f"follow it later with `steady jobs logs {job} --follow`"
                ) from None
        await asyncio.sleep(pause)


def kill(client: JobSubmissionClient, job: str, python: str) -> None:
    """End a job at once, whatever it does: on its node, the actor that Ray watches it with ends the driver.

    Raises:
        UserError: it could not be done.
    """
    from ray.dashboard.modules.job.common import JOB_ACTOR_NAME_TEMPLATE, SUPERVISOR_ACTOR_RAY_NAMESPACE

    actor = f"ray.get_actor({JOB_ACTOR_NAME_TEMPLATE.format(job_id=job)!r}, {SUPERVISOR_ACTOR_RAY_NAMESPACE!r})"
    call = f"ray.get({actor}.__ray_call__.remote(lambda _: end_driver({job!r})))"
    code = f"{inspect.getsource(probe.end_driver)}\nimport ray\nray.init(log_to_driver=False)\n{call}\n"
    helper = f"{_HELPERS[1]}{secrets.token_hex(4)}"
    with told(client.get_address()):
        client.submit_job(entrypoint=shlex.join([python, "-c", code]), submission_id=helper)
        status, _ = _wait_for(client, helper)
    if status != "SUCCEEDED":
        raise UserError("JOB", f"{job} could not be ended ({helper}: {status})", f"see `ray job logs {helper}`")


def _write_look(folder: Path) -> None:
    (folder / "probe.py").write_text(Path(probe.__file__).read_text())
    (folder / "preflight.py").write_text(_SCRIPT.format(inspect.getsource(_main_of_the_look)))


@no_type_check
def _main_of_the_look() -> None:
    # Its text becomes a script beside a copy of probe.py: nothing of this module is there.
    import json
    import sys

    import probe  # type: ignore[import-not-found]
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as OnNode

    asked = json.loads(sys.argv[1])
    ray.init(log_to_driver=False)
    alive = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}

    def everywhere(function, arguments, seconds):
        task = ray.remote(num_cpus=0, max_retries=0)(function)
        asked_of = {}
        for node in arguments:
            asked_of[task.options(scheduling_strategy=OnNode(node, soft=False)).remote(*arguments[node])] = node
        ready, _ = ray.wait(list(asked_of), num_returns=len(asked_of), timeout=seconds)
        return {asked_of[one]: ray.get(one) for one in ready}

    def capacity():
        # What is there, or more where an autoscaler says that it may start machines (as training/launch.py counts).
        there, most = dict(ray.cluster_resources()), {}
        try:  # Ray's own, and no promise of it
            from ray._private.state import state

            most = dict(state.get_max_resources_from_cluster_config() or {})
        except (ImportError, AttributeError):
            pass
        return {name: max(there.get(name, 0), most.get(name, 0)) for name in there.keys() | most.keys()}

    told = everywhere(probe.look, {node: (asked, node) for node in alive}, 120)
    unseen = {}
    if asked["work"]:
        wrote = [node for node in told if not told[node]["storage"]["error"]]
        unseen = everywhere(probe.compare, dict.fromkeys(wrote, (asked, wrote)), 60)
        everywhere(probe.clean, {node: (asked, node, told[node]["storage"]["made"]) for node in told}, 60)
    names = {node: f"{addresses[node]} ({node[:6]})" for node in addresses}
    answer = {
        "nodes": [told[node] | {"node": names[node]} for node in told],
        "unseen": {names[node]: [names[other] for other in unseen[node]] for node in unseen if unseen[node]},
        "silent": [names[node] for node in alive if node not in told],
        "resources": capacity(),
        "ray": ray.__version__,
    }
    print("STEADY-PREFLIGHT " + json.dumps(answer), flush=True)  # noqa: T201


def _answer_of(client: JobSubmissionClient, job: str, python: str) -> dict[str, Any]:
    with told(client.get_address()):
        status, message = _wait_for(client, job)
        log = client.get_job_logs(job)
    for line in log.splitlines():
        if line.startswith(_MARK):
            answer: dict[str, Any] = json.loads(line.removeprefix(_MARK))
            return answer
    said = [line for line in [*message.splitlines(), *log.splitlines()] if line.strip()] or ["it said nothing"]
    mend = f"check that `{python}` on the nodes is the Python that has Ray (--python), and the cluster's free memory"
    raise UserError("preflight", f"the job on the cluster ended as {status} ({redact(said[-1].strip())[:200]})", mend)


def _wait_for(client: JobSubmissionClient, job: str) -> tuple[str, str]:
    """Status and message of a short job when it has ended, or after ``_LOOK_SECONDS``."""
    end = time.monotonic() + _LOOK_SECONDS
    while True:
        info = client.get_job_info(job)
        if info.status.is_terminal() or time.monotonic() > end:
            return str(info.status.value), info.message or ""
        time.sleep(_POLL_SECONDS)


def _end(client: JobSubmissionClient, job: str) -> None:
    """Stop it if it still runs. It is not deleted: Ray would go on to list it, as a failed job without a command."""
    if not client.get_job_status(job).is_terminal():
        client.stop_job(job)


def _dashboard(address: str | None) -> str:
    """URL of the dashboard that an address means."""
    given = address or next((os.environ[name] for name in _NAMES_OF_ADDRESS if os.environ.get(name)), None)
    if given and given.startswith(("http://", "https://")):
        return given.rstrip("/")
    if given and "://" not in given and given != "auto" and ask(f"http://{given}", {})[0]:
        return f"http://{given}"
    from ray.dashboard.utils import get_address_for_submission_client

    try:
        with _environment_without(*_NAMES_OF_ADDRESS):
            return str(get_address_for_submission_client(given))
    except (RuntimeError, OSError, ValueError, ray.exceptions.RayError) as error:
        if given is None:
            return _DEFAULT
        reason = redact(" ".join(str(error).split()))[:200]
        mend = (
            "give the dashboard's URL, as --address http://HEAD:8265, or set RAY_AUTH_MODE=token if it asks for a token"
        )
        raise UserError("--address", f"no dashboard is known at {redact(given)!r} ({reason})", mend) from None


@contextmanager
def _environment_without(*names: str) -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
