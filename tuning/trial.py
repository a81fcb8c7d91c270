"""One trial: its job, its records on disk, and a piece of it run in this process."""

from __future__ import annotations

import gc
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from ground.errors import CorruptError, UserError
from training.checkpoint import CHECKPOINTS, newest_first, read_position
from training.control import Control, Request, Stopped
from training.job import Job as TrainingJob
from training.job import Record
from tuning.blend import Blend, mixture_of
from tuning.config import ObjectiveConfig
from tuning.history import Job, Report, Result
from tuning.space import Point

if TYPE_CHECKING:
    import torch

RECORDS, STOP = "records.jsonl", "stop"
_ASK_SECONDS = 0.5


@dataclass(frozen=True)
class Ended:
    """How a piece of a trial ended."""

    state: Literal["done", "failed", "stopped"]
    """``stopped``: it was asked to, has a checkpoint, and goes on later."""
    seconds: float
    """Of this process, start to end."""
    reason: str = ""


def trial_name(number: int) -> str:
    """Name of a trial and of its folder."""
    return f"trial-{number:03d}"


def trial_job(template: TrainingJob, blend: Blend, trial: int, point: Point, seed: int) -> TrainingJob:
    """What a trial trains.

    Args:
        template: the recipe's own run; its folder is the search's.
    """
    changes = {} if point.learning_rate is None else {"learning_rate": point.learning_rate}
    return template.model_copy(
        update={
            "name": trial_name(trial),
            "folder": str(Path(template.folder) / trial_name(trial)),
            "seed": seed,
            "mixture": mixture_of(point, blend, template.mixture),
            "training": template.training.model_copy(update=changes),
        }
    )


class RecordFile:
    """Where the process of a trial writes its records, line by line: whatever dies, what was trained is known."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        _drop_torn_line(folder / RECORDS)
        self._file: IO[str] = open(folder / RECORDS, "a")  # noqa: SIM115 (closed by ``close``)
        self.notices: list[str] = []
        self.record({"begun": checkpoint_tokens(folder)})

    def record(self, record: Record) -> None:
        """Append one record."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def notice(self, text: str) -> None:
        """Keep a line for the log."""
        self.notices.append(text)

    def close(self) -> None:
        """No more records."""
        self._file.close()


def read_trial_records(folder: Path) -> list[Record]:
    """All whole records of a trial, in the order of writing; a resumed trial may have written some twice."""
    return [record for record in _lines(folder) if "tokens" in record]


def redone_tokens(folder: Path) -> float:
    """Tokens that a trial has trained on more than once, because a process ended after its last checkpoint."""
    whole, reached, here, since = 0.0, 0.0, 0.0, 0.0
    for record in _lines(folder):
        if "begun" in record:
            whole += here - since
            since = here = record["begun"]
        else:
            here = max(here, float(record["tokens"]))
            reached = max(reached, here)
    return whole + here - since - reached


def _lines(folder: Path) -> list[Record]:
    path = folder / RECORDS
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def reports_of(
    records: Sequence[Record], job: Job, blend: Blend, objective: ObjectiveConfig, *, failed: bool
) -> tuple[Report, ...]:
    """What a job's records say about its part of the trial.

    The reports of a failed one end at the last token that it trained on, with the metric as not a number if it diverged.
    """
    at: dict[int, dict[str, float]] = {}
    for record in records:
        if job.start < record["tokens"] <= job.end:
            at.setdefault(record["tokens"], {}).update(record["metrics"])
    found = {tokens: blend.metrics(metrics, objective) for tokens, metrics in sorted(at.items())}
    reports = [Report(tokens, metrics) for tokens, metrics in found.items() if metrics]
    if failed and at:
        last = max(at)
        diverged = "alarm/not_finite" in at[last]
        if diverged:
            reports = [r for r in reports if r.tokens < last]
            reports.append(Report(last, {objective.domain_metric: math.nan}))
        elif not reports or reports[-1].tokens < last:
            reports.append(Report(last, {}))
    return tuple(reports)


def checkpoint_tokens(folder: Path) -> float:
    """Tokens at the newest readable checkpoint of a trial; 0 at the base."""
    for path in newest_first(folder / CHECKPOINTS):
        try:
            return float(read_position(path).tokens)
        except CorruptError:
            continue
    return 0.0


def result_of_trial(
    template: TrainingJob, blend: Blend, objective: ObjectiveConfig, job: Job, *, failed: bool = False
) -> Result:
    """The result of a job from its records on disk.

    Raises:
        UserError: it ended well and no record has the metrics.
    """
    folder = Path(template.folder) / trial_name(job.trial)
    reports = reports_of(read_trial_records(folder), job, blend, objective, failed=failed)
    if not failed and (not reports or reports[-1].tokens < job.end):
        raise UserError(
            "tuning.objective",
            f"{trial_name(job.trial)} reported no {objective.domain_metric} and {objective.general_metric} "
            f"at {job.end:,.0f} tokens",
            "use held-out metrics of sources that the evaluation measures",
        )
    return Result(job, reports, "failed" if failed else "done")


def forget_checkpoints(folder: Path) -> None:
    """Free the disk of a trial that will not go on."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


class FileControl(Control):
    """Asks to stop when a file is there: the only way to tell a process on another machine that needs no port."""

    def __init__(self, flag: Path) -> None:
        self._flag, self._asked, self._stop = flag, 0.0, False

    def requested(self) -> Request:
        """Looks twice a second."""
        now = time.monotonic()
        if now - self._asked > _ASK_SECONDS:
            self._asked, self._stop = now, self._flag.exists()
        return Request.STOP if self._stop else Request.NONE


def run_here(job: TrainingJob, end_tokens: float, device: torch.device) -> Ended:
    """Train a trial to ``end_tokens`` on this process alone, from its newest checkpoint.

    Raises:
        UserError: for a reason that every trial would meet.
    """
    import torch

    from training.loop import train

    _ensure_process_group(device)

    def piece(records: RecordFile) -> None:
        until = round(end_tokens / job.training.global_batch_tokens)
        train(job, records, device=device, control=FileControl(stop_flag(Path(job.folder).parent)), until=until)

    try:
        return run_piece(job, end_tokens, piece)
    finally:
        # An engine is full of cycles: without this the next trial begins beside the memory of the last ones.
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def run_piece(job: TrainingJob, end_tokens: float, piece: Callable[[RecordFile], object]) -> Ended:
    """Run ``piece``, which trains to ``end_tokens``, and say how it ended."""
    folder, started = Path(job.folder), time.perf_counter()
    records = RecordFile(folder)
    try:
        piece(records)
    except Stopped as stopped:
        early = stopped.step * job.training.global_batch_tokens < end_tokens
        return Ended("stopped" if early else "done", time.perf_counter() - started)
    except UserError as error:
        last = read_trial_records(folder)[-1:]
        if not last or "alarm/not_finite" not in last[0]["metrics"]:
            raise
        return Ended("failed", time.perf_counter() - started, str(error))
    finally:
        records.close()
    return Ended("done", time.perf_counter() - started)


def stop_flag(search: Path) -> Path:
    """The file in a search's folder whose presence makes all its trials write a checkpoint and end."""
    return search / STOP


def _ensure_process_group(device: torch.device) -> None:
    """A group of this process alone, left in place for later trials: DeepSpeed cannot have a second one."""
    import torch.distributed as dist

    if dist.is_initialized():
        return
    os.environ.update(LOCAL_RANK="0", RANK="0", WORLD_SIZE="1")
    rendezvous = Path(tempfile.mkdtemp(prefix="steady-")) / "rendezvous"
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{rendezvous}", rank=0, world_size=1)


def _drop_torn_line(path: Path) -> None:
    """A process that was killed may have left half a line."""
    if not path.is_file():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with open(path, "r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
