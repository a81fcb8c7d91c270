"""The ``steady`` command. Thin: parse, call, turn a UserError into one line and exit code 2."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from cluster.job_cli import add_to as add_job_commands
from ground.errors import user_error_in

app = typer.Typer(
    name="steady",
    help="Continue the pre-training of a language model on a domain corpus without losing what it knew.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe, for example recipes/demo.yaml.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[SECTION.FIELD=VALUE]...", help="Change fields, e.g. training.workers=2")
]


@app.command()
def curate(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    preview: Annotated[
        int | None, typer.Option(min=3, help="Show so many documents of each domain source, best to worst, and stop.")
    ] = None,
) -> None:
    """Read, filter, deduplicate, rank and tokenise the sources into the token store.

    The same command after a crash or a change does only what is missing.

    Example: steady curate recipes/demo.yaml --preview 30
    """
    from cluster.curation import curate_recipe, preview_recipe
    from cluster.recipe import load_recipe
    from cluster.storage import storage_of

    loaded = load_recipe(recipe, overrides or ())
    with storage_of(loaded):
        if preview is not None:
            preview_recipe(loaded, preview)
            return
        curate_recipe(loaded)


@app.command()
def mix(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    to: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("mixture"),
    format: Annotated[Literal["parquet", "jsonl", "megatron"], typer.Option(help="Format of the files.")] = "parquet",
    run: Annotated[str | None, typer.Option(help="Which run of the recipe, if it has several.")] = None,
    from_step: Annotated[int, typer.Option(min=0, help="First step to write.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Number of steps; absent: to the end.")] = None,
    text: Annotated[bool, typer.Option("--text", help="Write the decoded text too (jsonl only).")] = False,
) -> None:
    """Write a run's sequences, in training order, for another trainer.

    Example: steady mix recipes/demo.yaml --run full-recipe --to mixture --format megatron
    """
    from cluster.mix import mix_recipe
    from cluster.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or ())
    mix_recipe(loaded, to, format, run=run, from_step=from_step, steps=steps, text=text)


@app.command()
def plan(recipe: RecipeArgument, overrides: Overrides = None) -> None:
    """Show what the runs would cost and see, before anything is spent.

    Example: steady plan recipes/llama-3-8b-medical.yaml mixture.epochs=3
    """
    from cluster.commands import plan_recipe
    from cluster.recipe import load_recipe

    plan_recipe(load_recipe(recipe, overrides or ()))


@app.command()
def train(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this run of the recipe; may be repeated.")] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD", help="Go on with a run though this field of the recipe changed; may be repeated."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved recipe and the plan, start nothing.")
    ] = False,
) -> None:
    """Train every run of the recipe; the same command again goes on where it stopped.

    A run that has begun goes on only under the settings it began with, unless --allow names those that changed.

    Example: steady train recipes/demo.yaml --only full-recipe training.learning_rate=3e-4 --allow training.learning_rate
    """
    from cluster.commands import plan_recipe, train_recipe
    from cluster.recipe import load_recipe, to_yaml
    from cluster.storage import storage_of
    from tracking.redact import redact

    loaded = load_recipe(recipe, overrides or ())
    if dry_run:
        print(redact(to_yaml(loaded)), end="")
        plan_recipe(loaded)
        return
    with storage_of(loaded):
        train_recipe(loaded, only or (), allow or ())


@app.command()
def tune(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a search; an error when there is none to go on with.")
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Show what the search has spent, reserved and left; start nothing.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the search and show what it would cost, start nothing.")
    ] = False,
) -> None:
    """Search subset size, epochs, shares and learning rate for the best recipe that a budget can buy.

    Needs the section `tuning` in the recipe. The budget is never exceeded; the same command goes on after a crash.
    It writes the best recipe to search/best.yaml in the work folder and a report beside it.

    Example: steady tune recipes/search.yaml tuning.budget.value=4.0e6
    """
    from cluster.recipe import load_recipe
    from cluster.storage import storage_of
    from cluster.tune import plan_search, status_of, tune_recipe

    loaded = load_recipe(recipe, overrides or ())
    if status:
        status_of(loaded)
    elif dry_run:
        plan_search(loaded)
    else:
        with storage_of(loaded):
            tune_recipe(loaded, resume=resume)


@app.command()
def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A Hugging Face folder, a run's folder or a run's name.")
    ],
    tasks: Annotated[
        str, typer.Option(help="Groups (medical, general, mmlu_medical) and tasks of lm-eval; -name leaves one out.")
    ] = "medical,general",
    data: Annotated[Path | None, typer.Option(help="Folder of JSONL with the items; absent: the hub.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first items of each task.")] = None,
    against: Annotated[Path | None, typer.Option(help="Results of another model: show the paired difference.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to; absent: below .steady/evaluations.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1; absent: a GPU if there is one.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or auto; absent: float32 on a CPU, as saved on a GPU.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Rows of a forward pass.")] = 8,
) -> None:
    """Ask a model multiple-choice questions through lm-eval, and compare it with another.

    Example: steady evaluate models/tiny-base --tasks medical,general,-race --data benchmarks --against base-results
    """
    from cluster.evaluate import evaluate as evaluate_tasks

    evaluate_tasks(
        model, tasks, data=data, limit=limit, against=against, out=out, device=device, dtype=dtype, batch=batch
    )


@app.command()
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder or a run's name.")],
    step: Annotated[
        int | None, typer.Option(min=0, help="The checkpoint of this step; absent: the final model, else the newest.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Folder to write to; absent: exports/ in the run's folder.")] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None, typer.Option(help="Type of the weights; absent: as trained.")
    ] = None,
    register: Annotated[
        str | None, typer.Option(metavar="NAME", help="Also register it in MLflow's model registry.")
    ] = None,
) -> None:
    """Write a run's model as a Hugging Face folder with a model card.

    Example: steady export full-recipe --step 200 --dtype bfloat16 --register medical-model
    """
    from cluster.export import export_run

    export_run(run, step=step, to=to, dtype=dtype, register=register)


@app.command()
def report(recipe: RecipeArgument, overrides: Overrides = None) -> None:
    """Write the HTML reports and the plots of the finished runs and of the search, and log them to MLflow."""
    from cluster.recipe import load_recipe
    from cluster.reports import report_all
    from cluster.storage import storage_of

    loaded = load_recipe(recipe, overrides or ())
    with storage_of(loaded):
        report_all(loaded)


@app.command()
def sync(recipe: RecipeArgument, overrides: Overrides = None) -> None:
    """Send to MLflow what was recorded while it was out of reach.

    Example: steady sync recipes/demo.yaml
    """
    from cluster.recipe import load_recipe
    from cluster.storage import storage_of
    from cluster.sync import sync_recipe

    loaded = load_recipe(recipe, overrides or ())
    with storage_of(loaded):
        sync_recipe(loaded)


@app.command()
def ui(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 5000,
    shared: Annotated[
        bool, typer.Option("--serve", help="A server for a team: other machines record into it (docs/mlflow.md).")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer requests.")] = 1,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A name it is reached by, e.g. mlflow.lab; repeatable.")
    ] = None,
) -> None:
    """Open the MLflow UI over the recipe's runs, or serve MLflow to a team (loopback only, unless --host says otherwise).

    Example: steady ui recipes/demo.yaml --serve --port 5001
    """
    from cluster.recipe import load_recipe
    from cluster.ui import serve

    loaded = load_recipe(recipe, overrides or ())
    serve(loaded, host, port, shared=shared, workers=workers, allowed_hosts=allow_host or ())


@app.command()
def doctor(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="Also check that this recipe could run.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Check this machine, and a recipe if given; exits with 1 when something is broken."""
    from cluster.doctor import examine

    raise typer.Exit(examine(recipe, overrides or []))


@app.command()
def demo(
    work: Annotated[Path, typer.Option(help="Folder for everything the demo writes.")] = Path(".steady/demo"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw away an earlier demo first.")] = False,
) -> None:
    """Run the main job end to end on packaged text: curate, plan, train, report, search. No GPU, under 15 minutes."""
    from cluster.demo import run_demo

    run_demo(work, fresh=fresh)


add_job_commands(app)


def main() -> None:
    """Entry point of ``steady``."""
    _quiet_libraries()
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        app(standalone_mode=True, prog_name="steady")
    except Exception as error:
        mistake = user_error_in(error)  # Ray wraps what a worker raised
        if mistake is None:
            raise
        errors.print(f"[bold red]steady:[/bold red] {escape(str(mistake))}")
        sys.exit(2)
    except KeyboardInterrupt:
        errors.print("steady: stopped; the same command goes on from the last checkpoint")
        sys.exit(130)


def _quiet_libraries() -> None:
    """Keep other people's warnings off a screen that must show ours."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    for name in ("alembic", "mlflow", "ray.data", "ray.train", "ray.tune", "DeepSpeed", "transformers", "lm_eval"):
        logging.getLogger(name).setLevel(logging.WARNING)
