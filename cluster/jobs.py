"""``steady submit`` and ``steady jobs``: check, upload, start, follow, list and stop jobs on a Ray cluster."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from cluster.console import console, duration
from cluster.dashboard import asks_for_credentials
from cluster.job_command import JobCommand
from cluster.preflight import EXCLUDES, judge_nodes, judge_token, judge_upload, questions
from ground.errors import UserError
from tracking.redact import redact

if TYPE_CHECKING:
    from cluster.doctor_lines import Finding
    from cluster.submit import JobDetails, JobSubmissionClient

_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_TRACKING_SECONDS = 5.0
_SHOWN_COMMAND = 60


def submit(
    command: JobCommand, folder: Path, *, address: str | None, python: str = "python", wait: bool, force: bool = False
) -> int:
    """Check everything, upload the working directory, start the job, and follow it if asked to.

    Args:
        folder: the working directory.
        address: of the cluster; absent: the recipe's, else what the environment says.
        python: command that starts Python on the nodes.
        wait: show the log until the job ends.
        force: go on though a check found something broken.

    Returns:
        Exit code: 0, or 1 if the job did not succeed, or 130 if the user stopped waiting for it.

    Raises:
        UserError: a check found something broken, or the cluster refused. Nothing was uploaded but the checks themselves.
    """
    from cluster import submit as api

    listing = api.upload_listing(folder, EXCLUDES)
    _judge(judge_upload(listing, command, folder), force=force)
    client = api.connect(address or command.recipe.cluster.address)
    url = client.get_address()
    _judge([judge_token(url, asks=asks_for_credentials(url))], force=force)
    asked = questions(command, secrets.token_hex(4))
    console.print(f"checking {redact(url)} and its nodes (about 20 s)")
    _judge(judge_nodes(api.look_at_nodes(client, asked, python), command, asked), force=force)
    job = f"{command.recipe.name}-{command.name}-{secrets.token_hex(3)}"
    entrypoint = [*python.split(), "-m", "cluster", *command.arguments]
    api.start(client, entrypoint, folder, EXCLUDES, job, {"steady": command.name, "recipe": command.recipe.name})
    _show_links(client, command, job)
    if not wait:
        return 0
    return _follow(client, job)


def show_jobs(address: str | None) -> None:
    """All jobs of the cluster, the newest first."""
    from cluster import submit as api

    client = api.connect(address)
    table = Table(box=None)
    for heading in ("job", "status", "started", "took", "command"):
        table.add_column(heading, no_wrap=heading != "command")
    found = api.jobs(client)
    for job in found:
        table.add_row(*_row(job))
    if not found:
        console.print(f"no job has been submitted to {redact(client.get_address())}")
        return
    console.print(table)


def show_log(job: str, address: str | None, *, follow: bool) -> int:
    """The log of a job so far, or until it ends; 1 if it ended without success."""
    from cluster import submit as api

    client = api.connect(address)
    found = api.details(client, job)
    if follow:
        return _follow(client, job)
    with api.told(client.get_address()):
        _write(client.get_job_logs(job))
    return int(found.status.value in ("FAILED", "STOPPED"))


def stop(job: str, address: str | None, *, wait: bool, now: bool, python: str = "python") -> int:
    """Tell a job to write a checkpoint and end; 1 if it does not end as stopped.

    Args:
        wait: return when it has ended, showing what it says.
        now: end it at once, without a checkpoint.
    """
    from cluster import submit as api
    from cluster.session import STOP_SECONDS

    client = api.connect(address)
    status = api.details(client, job).status.value
    if status in _ENDED:
        console.print(f"{job} has ended already: {status}")
        return 0
    with api.told(client.get_address()):
        said = len(client.get_job_logs(job))
        if now:
            api.kill(client, job, python)
            console.print(f"{job} was ended at once; the same command goes on from its last checkpoint")
            return 0
        client.stop_job(job)
    console.print(f"{job} was told to stop: it writes a checkpoint first, for which it has {duration(STOP_SECONDS)}")
    if not wait:
        return 0
    status = api.follow(client, job, _write, skip=said)
    console.print(f"{job}: {status}")
    return int(status != "STOPPED")


def _follow(client: JobSubmissionClient, job: str, pause: float = 1) -> int:
    from cluster import submit as api

    try:
        status = api.follow(client, job, _write, pause=pause)
    except KeyboardInterrupt:
        console.print(f"\n{job} goes on. Follow it: steady jobs logs {job} --follow; stop it: steady jobs stop {job}")
        return 130
    console.print(f"{job}: {status}")
    return int(status != "SUCCEEDED")


def _judge(findings: Sequence[Finding], *, force: bool) -> None:
    """Show what was found; UserError for the first thing that is broken."""
    signs = {"ok": "[green]ok[/green]", "note": "[yellow]note[/yellow]", "broken": "[red]broken[/red]"}
    for finding in findings:
        console.print(f"  {signs[finding.level]}  {finding.what}: {escape(finding.found)}")
    broken = [finding for finding in findings if finding.level == "broken"]
    if broken and not force:
        rest = f" ({len(broken) - 1} more above)" if len(broken) > 1 else ""
        raise UserError(broken[0].what, broken[0].found + rest, f"{broken[0].mend}; --force submits all the same")


def _show_links(client: JobSubmissionClient, command: JobCommand, job: str) -> None:
    url = redact(client.get_address())
    console.print(f"job        {job}")
    console.print(f"dashboard  {url}/#/jobs/{job}")
    console.print(f"MLflow     {_tracking_link(command)}")
    console.print(f"follow     steady jobs logs {job} --follow")
    console.print(f"stop       steady jobs stop {job}")


def _tracking_link(command: JobCommand) -> str:
    """Page of the recipe's experiment, as near as it can be told from here."""
    recipe = command.recipe
    experiment = recipe.tracking.experiment or recipe.name
    uri = recipe.tracking.uri
    if uri is None or not uri.startswith(("http://", "https://")):
        return f"steady ui {command.recipe_path}, where {recipe.work_folder} is mounted (experiment {experiment!r})"
    from tracking.connect import connect

    page = uri.rstrip("/")
    try:
        found: Any = connect(uri, _TRACKING_SECONDS).get_experiment_by_name(experiment)
    except UserError:  # reached by the nodes, not from here
        found = None
    return f"{page}/#/experiments/{found.experiment_id}" if found else f"{page} (experiment {experiment!r})"


def _row(job: JobDetails) -> list[str]:
    started = (job.start_time or 0) / 1000
    ended = (job.end_time or 0) / 1000 or time.time()
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(started)) if started else "-"
    command = redact(job.entrypoint)
    shown = command if len(command) <= _SHOWN_COMMAND else f"{command[: _SHOWN_COMMAND - 3]}..."
    return [
        str(job.submission_id),
        job.status.value,
        when,
        duration(ended - started) if started else "-",
        escape(shown),
    ]


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
