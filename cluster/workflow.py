"""What the command does, as functions: prepare a store, plan, train and compare runs. The one place where rooms meet."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cluster.changes import change_tags, record_change, settle
from cluster.recipe import Recipe
from cluster.stores import store_of
from ground.errors import UserError
from ground.files import canonical_json, digest_bytes, digest_file, write_atomic
from pipelines.plan import Plan, SourceSize
from pipelines.store import TokenStore
from tracking.history import History
from tracking.overview import overview_tags
from tracking.runs import RunLog, Tracker
from training.config import AUTO, EvaluationConfig, TrainingConfig
from training.estimate import Estimate, estimate
from training.freeze import check_freezing
from training.gap import GapMetrics, gap_metrics
from training.job import Job, Outcome, Record
from training.memory import Load, choose_micro_batch
from training.model import check_vocabulary, model_shape
from training.tasks.check import check_tasks

RESULT, JOB, LOCK = "result.json", "job.json", "lock"


@dataclass(frozen=True)
class Planned:
    """One run of a recipe, planned."""

    name: str
    recipe: Recipe
    """The recipe with this run's changes."""
    plan: Plan
    estimate: Estimate
    load: Load
    """What decides about memory."""


@dataclass(frozen=True)
class Finished:
    """One run, done."""

    name: str
    outcome: Outcome
    curves: History
    gaps: dict[str, GapMetrics]
    """Source -> gap metrics of minus the held-out loss."""
    task_gaps: dict[str, GapMetrics] = field(default_factory=dict)
    """Group or task -> gap metrics of its accuracy, where it was measured at checkpoints."""


def plan_runs(
    recipe: Recipe, *, device: str, peak_flops: float | None, gpu_memory: float | None = None
) -> list[Planned]:
    """Plan every run of a recipe, from its store or, before that exists, from ``sources.<name>.tokens``.

    Args:
        gpu_memory: bytes of one GPU, for ``micro_batch: auto``; None: not known.

    Raises:
        UserError: whatever would make a run fail that can be known now.
    """
    store = _store_if_complete(recipe)
    sizes = store.sizes if store else _expected_sizes(recipe)
    vocabulary = store.manifest.vocabulary if store else None
    planned = []
    for name, written in recipe.variants().items():
        variant = written
        shape, size = model_shape(variant.model, vocabulary)
        check_vocabulary(size, vocabulary or size)
        check_freezing(variant.training, shape.layers)
        check_tasks(variant.evaluation)
        if variant.training.sequence_length > shape.max_positions:
            raise UserError(
                "training.sequence_length",
                f"{variant.training.sequence_length} is longer than the model's {shape.max_positions} positions",
                "lower it, or take a base with a longer context",
            )
        plan = Plan(
            sizes,
            variant.mixture,
            sequence_length=variant.training.sequence_length,
            batch_sequences=variant.training.batch_sequences,
            seed=variant.seed,
        )
        load = Load(shape, size, variant.training, half=plans_half(variant.training, device))
        if variant.training.micro_batch == AUTO:
            kept = _kept_micro_batch(recipe.work_folder / "runs" / name)
            rows = choose_micro_batch(load, gpu_memory, gpu=device == "gpu", kept=kept)
            load = load.at(micro_batch=rows)
            variant = variant.model_copy(update={"training": load.training})
        cost = estimate(
            plan,
            shape,
            size,
            variant.training,
            peak_flops=variant.training.peak_flops or peak_flops,
            device=device,
            measured_tokens_per_second=measured_speed(recipe.work_folder, variant),
        )
        planned.append(Planned(name, variant, plan, cost, load))
    return planned


def plans_half(training: TrainingConfig, device: str) -> bool:
    """Whether a run will use 16-bit mixed precision on ``device`` (``gpu`` or ``cpu``)."""
    return device == "gpu" if training.precision == "auto" else training.precision != "fp32"


def make_job(planned: Planned, store: TokenStore, allow: Sequence[str] = ()) -> Job:
    """The job of one planned run.

    Args:
        allow: fields with which a run that has begun may go on though they changed.

    Raises:
        UserError: the run's folder belongs to a run with other settings.
    """
    folder = planned.recipe.work_folder / "runs" / planned.name
    return settle(folder / JOB, job_in(folder, planned, store), allow, complete=(folder / RESULT).is_file())


def job_in(folder: Path, planned: Planned, store: TokenStore) -> Job:
    """The job of one planned run in a folder, whatever that holds."""
    recipe = planned.recipe
    model, base_digest = recipe.model, None
    if model.base and (base := Path(model.base)).is_dir():
        model, base_digest = model.model_copy(update={"base": str(base.resolve())}), base_fingerprint(base)
    return Job(
        name=planned.name,
        folder=str(folder.resolve()),
        seed=recipe.seed,
        store=store.location,
        store_digest=store.digest,
        mixture=recipe.mixture,
        model=model,
        base_digest=base_digest,
        training=recipe.training,
        evaluation=_with_absolute_data(recipe.evaluation),
        cache_folder=recipe.cluster.cache_folder,
        cache_gb=recipe.cluster.cache_gb,
    )


def _kept_micro_batch(folder: Path) -> int | None:
    """What ``auto`` meant when the run began: another number would round differently."""
    path = folder / JOB
    return int(json.loads(path.read_text())["training"]["micro_batch"]) if path.is_file() else None


def _with_absolute_data(evaluation: EvaluationConfig) -> EvaluationConfig:
    """Workers run elsewhere than the command."""
    if evaluation.tasks_data is None:
        return evaluation
    return evaluation.model_copy(update={"tasks_data": str(Path(evaluation.tasks_data).expanduser().resolve())})


def base_fingerprint(folder: Path) -> str:
    """Digest of a local model's configuration and weights."""
    files = sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")])
    return digest_bytes("".join(f"{file.name} {digest_file(file)}\n" for file in files))


def finished_run(job: Job) -> Outcome | None:
    """The outcome of a run that is complete already, else None."""
    path = Path(job.folder) / RESULT
    if not path.is_file():
        return None
    kept = json.loads(path.read_text())
    return Outcome(kept["steps"], kept["tokens"], Path(kept["model"]), kept["seconds"])


def run_job(
    job: Job, log: RunLog, on_record: Callable[[Record], None], *, use_gpu: bool, sample_s: float | None = None
) -> Outcome:
    """Train one run and log it; continues where an earlier attempt stopped.

    Args:
        sample_s: seconds between two samples of the system metrics of other nodes; None: none are taken.

    Raises:
        UserError: another command is writing the run, or it cannot go on.
    """
    with only_writer(Path(job.folder), job.name):
        if changes := record_change(Path(job.folder) / JOB, job):
            log.tags(change_tags(changes))
        return _run_job(job, log, on_record, use_gpu=use_gpu, sample_s=sample_s)


def _run_job(
    job: Job, log: RunLog, on_record: Callable[[Record], None], *, use_gpu: bool, sample_s: float | None
) -> Outcome:
    from training.launch import launch  # loads Ray Train: 3 s that `plan` and `report` need not wait

    def take(record: Record) -> None:
        if log.log(record):  # else a run that goes on repeats what it had recorded
            on_record(record)

    outcome = launch(job, take, use_gpu=use_gpu, on_sample=log.node_sample, sample_s=sample_s)
    write_atomic(Path(job.folder) / RESULT, canonical_json({**asdict(outcome), "model": str(outcome.model)}))
    return outcome


def summarise(name: str, outcome: Outcome, history: History) -> Finished:
    """Gap metrics of a finished run from its recorded curves."""
    gaps, task_gaps = {}, {}
    for metric, points in history.items():
        tokens, values = zip(*points, strict=True)
        if metric.startswith("heldout/") and metric.endswith("/loss"):
            gaps[metric.split("/")[1]] = gap_metrics(tokens, [-loss for loss in values])
        elif metric.startswith("task/") and metric.endswith("/accuracy") and tokens[0] == 0:
            task_gaps[metric.split("/")[1]] = gap_metrics(tokens, values)
    return Finished(name, outcome, history, gaps, task_gaps)


def gap_record(finished: Finished) -> Record:
    """The gap metrics as one record at the end of the run."""
    metrics = {}
    named = finished.gaps | {f"task/{name}": gap for name, gap in finished.task_gaps.items()}
    for name, gap in named.items():
        for key, value in asdict(gap).items():
            if value is not None:
                metrics[f"gap/{name}/{key}"] = float(value)
    now = time.time_ns() // 1_000_000
    return {"step": finished.outcome.steps, "tokens": finished.outcome.tokens, "time_ms": now, "metrics": metrics}


def open_tracker(recipe: Recipe, *, or_later: bool = False) -> Tracker:
    """The experiment of a recipe.

    Args:
        or_later: take a store that does not answer; what is recorded is then kept, for `steady sync`.

    Raises:
        UserError: the tracking store refuses.
    """
    recipe.work_folder.mkdir(parents=True, exist_ok=True)
    return Tracker.open(
        recipe.tracking.resolved_uri(recipe.work_folder),
        recipe.tracking.experiment or recipe.name,
        description=recipe.description,
        tags={
            "mlflow.experimentKind": "custom_model_development",  # MLflow opens its pages for training, not for agents
            **overview_tags({name: source.role for name, source in recipe.sources.items()}),
        },
        or_later=or_later,
    )


def choose_device(training: TrainingConfig, gpus: int) -> str:
    """``gpu`` or ``cpu``: what ``training.accelerator`` means with this many GPUs.

    Raises:
        UserError: GPUs are asked for and there are too few.
    """
    if training.accelerator == "gpu" and gpus < training.workers:
        raise UserError(
            "training.accelerator", f"asks for {training.workers} GPUs, there are {gpus}", "use cpu or fewer workers"
        )
    if training.accelerator == "auto":
        return "gpu" if gpus >= training.workers else "cpu"
    return training.accelerator


def _store_if_complete(recipe: Recipe) -> TokenStore | None:
    """The store; None when there is none yet and the recipe tells the sizes to expect."""
    told = all(source.tokens for source in recipe.sources.values() if source.role != "reference")
    if told and not recipe.store_url and not recipe.store_folder.is_dir():
        return None
    return store_of(recipe)


def _expected_sizes(recipe: Recipe) -> dict[str, SourceSize]:
    return {
        name: SourceSize(source.role, source.tokens or 0)
        for name, source in recipe.sources.items()
        if source.role != "reference"
    }


@contextmanager
def only_writer(folder: Path, name: str) -> Iterator[None]:
    """Hold the run's lock, which the system lets go when the process ends, however it ends.

    Raises:
        UserError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"run {name}", f"another command is writing {folder}", "wait for it, or stop it first"
            ) from None
        yield


def measured_speed(work: Path, variant: Recipe) -> float | None:
    """Tokens per second of a finished run in this work folder with the same model and training settings."""
    wanted = variant.training.model_dump(mode="json")
    base = Path(variant.model.base) if variant.model.base else None
    model = variant.model.model_dump(mode="json")
    if base is not None and base.is_dir():
        model["base"] = base_fingerprint(base)
    for path in sorted(work.glob(f"runs/*/{RESULT}")):
        job = json.loads((path.parent / JOB).read_text()) if (path.parent / JOB).is_file() else {}
        same = job.get("model") == model and all(
            value == wanted.get(key) for key, value in job.get("training", {}).items() if key in _SPEED_FIELDS
        )
        with suppress(ValueError, KeyError, TypeError):  # a damaged result tells no speed
            result = json.loads(path.read_text())
            if job and same and result["seconds"] > 0:
                return float(result["tokens"] / result["seconds"])
    return None


_SPEED_FIELDS = {
    "sequence_length",
    "global_batch_tokens",
    "micro_batch",
    "workers",
    "precision",
    "zero_stage",
    "accelerator",
    "offload",
    "attention",
    "loss",
    "compile",
}
