"""``steady submit`` and ``steady jobs list | logs | stop``, as parts of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Address = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Dashboard of the cluster, http://HEAD:8265; absent: RAY_ADDRESS, else this machine."
    ),
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job, as `steady jobs list` shows it.")]
Python = Annotated[str, typer.Option(metavar="COMMAND", help="What starts Python on the cluster's nodes.")]

jobs_app = typer.Typer(no_args_is_help=True, help="List, follow and stop the jobs of a cluster.")


def add_to(app: typer.Typer) -> None:
    """Give ``steady`` the commands for jobs."""

    @app.command()
    def submit(
        command: Annotated[
            list[str] | None, typer.Argument(metavar="-- COMMAND RECIPE [...]", help="What the job runs, after `--`.")
        ] = None,
        address: Address = None,
        wait: Annotated[
            bool, typer.Option("--wait", help="Show the log until the job ends; exit with 1 if it fails.")
        ] = False,
        working_dir: Annotated[Path, typer.Option(help="Folder to upload; the recipe lies in it.")] = Path(),
        python: Python = "python",
        force: Annotated[bool, typer.Option("--force", help="Submit though a check found something broken.")] = False,
    ) -> None:
        """Run a command on a Ray cluster, as a job, after checking that it can run there.

        The folders of the recipe (work, curation.store) must be absolute and shared by all nodes.

        Example: steady submit --address http://HEAD:8265 --wait -- train recipes/demo.yaml work=/shared/demo
        """
        from cluster.job_command import parse
        from cluster.jobs import submit as submit_command

        parsed = parse(app, command or [], working_dir)
        raise typer.Exit(submit_command(parsed, working_dir, address=address, python=python, wait=wait, force=force))

    app.add_typer(jobs_app, name="jobs")


@jobs_app.command("list")
def list_jobs(address: Address = None) -> None:
    """Show all jobs, the newest first.

    Example: steady jobs list --address http://HEAD:8265
    """
    from cluster.jobs import show_jobs

    show_jobs(address)


@jobs_app.command()
def logs(
    job: JobArgument,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
) -> None:
    """Show what a job printed; exits with 1 if it ended without success.

    Example: steady jobs logs demo-train-3f9a2c --follow
    """
    from cluster.jobs import show_log

    raise typer.Exit(show_log(job, address, follow=follow))


@jobs_app.command()
def stop(
    job: JobArgument,
    address: Address = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when it has ended.")] = True,
    now: Annotated[bool, typer.Option("--now", help="End it at once, without a checkpoint.")] = False,
    python: Python = "python",
) -> None:
    """Tell a job to write a checkpoint and end.

    Example: steady jobs stop demo-train-3f9a2c
    """
    from cluster.jobs import stop as stop_job

    raise typer.Exit(stop_job(job, address, wait=wait, now=now, python=python))
