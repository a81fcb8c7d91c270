"""The search on a Ray cluster: Ray Tune runs the jobs that the driver decides on, each as one of its trials.

Ray Tune starts, places, reuses and watches the processes. What to run next, what it may cost and what it meant is decided by
``tuning/driver.py`` from files, so that a search goes on after any crash without Ray's own notes.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from ground.errors import UserError, user_error_in
from ground.files import write_atomic
from training.job import Job as TrainingJob
from training.signals import stopped_by_signals
from tuning.base import Base, load_base, measure_base, save_base
from tuning.blend import Blend
from tuning.config import ObjectiveConfig
from tuning.driver import Decider, Driver, Foreteller, Wait, advance
from tuning.history import Job
from tuning.propose import Stop
from tuning.trial import (
    Ended,
    RecordFile,
    forget_checkpoints,
    redone_tokens,
    result_of_trial,
    run_here,
    run_piece,
    stop_flag,
    trial_job,
    trial_name,
)

JOB = "job.json"
_HEAD = "node:__internal_head__"
"""A resource that every Ray cluster has, on one node."""
_POLL_SECONDS = 0.5
_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # a job's records are ours
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints a page at every start, whatever ``verbose`` says
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # its own notes are not read
}
_ATTEMPTS = 3
"""Times that a job may be started; a job that kills its process three times would do so for ever."""


@dataclass(frozen=True)
class Search:
    """What the jobs of a search share."""

    template: TrainingJob
    """The recipe's run; its folder is the search's."""
    blend: Blend
    objective: ObjectiveConfig
    concurrent: int
    use_gpu: bool

    @property
    def nested(self) -> bool:
        """Whether a job is a Ray Train run of several workers rather than one process."""
        return self.template.training.workers > 1

    def folder(self, trial: int) -> Path:
        """Where a trial's records and checkpoints are."""
        return Path(self.template.folder) / trial_name(trial)


def check_placement(workers: int, concurrent: int, *, use_gpu: bool) -> None:
    """Fail at once when the cluster cannot hold all workers of all trials that may run together: they would wait for each
    other's places for ever.

    Raises:
        UserError: with the arithmetic.
    """
    from training.launch import cluster_capacity

    have = cluster_capacity()
    resource = "GPU" if use_gpu else "CPU"
    need, there = workers * concurrent, have.get(resource, 0)
    if need > there:
        raise UserError(
            "tuning.max_concurrent",
            f"{concurrent} trials x {workers} workers need {need} {resource}s, the cluster has {there:g}",
            f"use at most {int(there // workers)} trials at once" if there >= workers else "use fewer training.workers",
        )


def base_of(search: Search, path: Path) -> Base:
    """The base model's metrics: kept in a file, else measured on the cluster.

    Raises:
        UserError: the base cannot be loaded or does not fit the store.
    """
    kept = load_base(path, search.template)
    if kept is not None:
        return kept
    task = ray.remote(num_gpus=int(search.use_gpu), num_cpus=1)(_measure)
    try:
        base: Base = ray.get(task.remote(search.template.model_dump(mode="json"), search.use_gpu))
    except ray.exceptions.RayTaskError as error:
        raise user_error_in(error) or error from None
    save_base(path, search.template, base)
    return base


def run_search(
    search: Search,
    driver: Driver,
    decide: Decider,
    foretell: Foreteller | None = None,
    watch: Callable[[], None] = lambda: None,
) -> str:
    """Run until the budget is spent or nothing is left to gain; goes on where an earlier call stopped.

    SIGTERM or SIGINT makes all trials write a checkpoint and end.

    Args:
        watch: called twice a second in this thread, and once at the end.

    Returns:
        Why it ended.

    Raises:
        UserError: a trial failed for a reason that the others would meet too.
        SystemExit: it was told to stop, and did.
    """
    flag = stop_flag(Path(search.template.folder))
    flag.unlink(missing_ok=True)
    searcher = _Decisions(search, driver, decide, foretell)
    fit = _Fit(_tuner(search, searcher))
    with stopped_by_signals(flag.touch) as stopped:
        while fit.is_alive():
            fit.join(_POLL_SECONDS)
            watch()
    watch()
    error = searcher.error or fit.error
    if error is not None:
        raise error
    if stopped:
        sys.stderr.write("steady: the search stopped; the same command goes on from there\n")
        raise SystemExit(128 + stopped[0])
    return searcher.reason


class _Decisions(Searcher):
    """Ray Tune asks this what to run; every job is one trial of Ray Tune."""

    def __init__(self, search: Search, driver: Driver, decide: Decider, foretell: Foreteller | None) -> None:
        super().__init__()
        self._search, self._driver, self._decide, self._foretell = search, driver, decide, foretell
        self._running: dict[str, Job] = {}
        self._starts: Counter[int] = Counter()
        self.error: UserError | None = None
        self.reason = ""

    def suggest(self, trial_id: str) -> Any:
        """The next job as a configuration; None: not now; FINISHED: no more."""
        flag = stop_flag(Path(self._search.template.folder))
        if self.error is not None or flag.exists():
            return Searcher.FINISHED
        job = self._again() or self._next()
        if isinstance(job, Job):
            self._running[trial_id] = job
            self._starts[job.number] += 1
            return {"job": job.number, "trial": _write_job(self._search, job), "end": job.end}
        return job

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: a job has one result."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A job ended, or its process did."""
        job = self._running.pop(trial_id)
        if error or result is None:
            if self._starts[job.number] >= _ATTEMPTS:
                self.error = UserError(
                    trial_name(job.trial),
                    f"lost its process {_ATTEMPTS} times",
                    "see Ray's logs; the same command tries again",
                )
            return
        if "problem" in result:
            field = f"{trial_name(job.trial)}: {result['field']}"
            self.error = UserError(field, result["problem"], result["mend"])
        elif result["state"] != "stopped":
            self._end(job, failed=result["state"] == "failed", seconds=result["seconds"])

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journals are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing either."""

    def __reduce__(self) -> Any:
        """Ray Tune keeps a copy of its searcher, which nobody reads: the journals are the state, and they stay here."""
        return Searcher, ()

    def _again(self) -> Job | None:
        """A job that was decided and has no process: after a restart, or after its process was lost."""
        running = {job.number for job in self._running.values()}
        for job in self._driver.unfinished():
            if job.number in running:
                continue
            if self._driver.redo(job, redone_tokens(self._search.folder(job.trial))):
                return job
            self._end(job, failed=True, seconds=0.0)
        return None

    def _next(self) -> Job | str | None:
        made = advance(self._driver, self._decide, self._foretell)
        if isinstance(made, Wait):
            return None
        if isinstance(made.action, Stop):
            self.reason = made.action.reason
            return str(Searcher.FINISHED)
        return made.action

    def _end(self, job: Job, *, failed: bool, seconds: float) -> None:
        search = self._search
        try:
            result = result_of_trial(search.template, search.blend, search.objective, job, failed=failed)
        except UserError as error:
            self.error = error
            return
        devices = search.template.training.workers
        self._driver.end(result, seconds * devices)
        if failed or job.end >= job.point.tokens * (1 - 1e-6):
            forget_checkpoints(search.folder(job.trial))


class _Trial(tune.Trainable):
    """The process of jobs, one after the other."""

    def setup(self, config: dict[str, Any]) -> None:
        """Nothing: ``step`` does all of a job, and loads what it needs once."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:  # noqa: ARG002 (Ray's signature)
        """The process takes another job: libraries are loaded once, not for each."""
        return True

    def step(self) -> dict[str, Any]:
        """All of a job."""
        job = TrainingJob.model_validate_json((Path(self.config["trial"]) / JOB).read_text())
        try:
            ended = _run_job(job, self.config["end"])
        except UserError as error:
            return {"done": True, "field": error.field, "problem": error.problem, "mend": error.mend}
        return {"done": True, **asdict(ended)}


def _run_job(job: TrainingJob, end: float) -> Ended:
    use_gpu = job.training.accelerator == "gpu"  # resolved before the search began
    if job.training.workers == 1:
        import torch

        if not use_gpu:
            torch.set_num_threads(job.training.threads or 1)
        return run_here(job, end, torch.device("cuda" if use_gpu else "cpu"))
    from training.launch import launch

    flag = stop_flag(Path(job.folder).parent)

    def piece(records: RecordFile) -> None:
        until = round(end / job.training.global_batch_tokens)
        launch(job, records.record, use_gpu=use_gpu, until=until, asked_to_stop=flag.exists)

    return run_piece(job, end, piece)


def _write_job(search: Search, job: Job) -> str:
    made = trial_job(search.template, search.blend, job.trial, job.point, job.seed)
    folder = Path(made.folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / JOB, made.model_dump_json())
    return str(folder)


def _measure(template: dict[str, Any], use_gpu: bool) -> Base:
    import torch

    return measure_base(TrainingJob.model_validate(template), torch.device("cuda" if use_gpu else "cpu"))


def _tuner(search: Search, searcher: Searcher) -> tune.Tuner:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    # The workers of a nested run take places of their own; its trial only waits for them, beside the driver, where no node is
    # lost while the search lives. Ray Tune wants it to take something.
    alone = {"CPU": 1.0, **({"GPU": 1.0} if search.use_gpu else {})}
    resources: dict[str, float] = {"CPU": 0.0, _HEAD: 0.001} if search.nested else alone
    return tune.Tuner(
        tune.with_resources(_Trial, resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=-1,  # until the searcher says so
            reuse_actors=True,
            trial_name_creator=lambda trial: f"job-{trial.config['job']}",
            trial_dirname_creator=lambda trial: f"job-{trial.config['job']}-{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name="ray",
            storage_path=search.template.folder,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the loop writes checkpoints
            verbose=0,
        ),
    )


class _Fit(threading.Thread):
    """``tuner.fit()`` beside the main thread, which takes signals and watches."""

    def __init__(self, tuner: tune.Tuner) -> None:
        super().__init__(name="steady-search", daemon=True)
        self._tuner = tuner
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        """The whole search."""
        try:
            self._tuner.fit()
        except Exception as error:  # noqa: BLE001 (the main thread raises it)
            self.error = error
