"""A job on several processes here, without Ray: ``python -m tests.helpers.ranks JOB.json RANK WORLD [RESUME]``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from ground.errors import UserError
from tests.helpers.runs import ListReporter
from training.job import Job, Record
from training.loop import train

_SECONDS = 300


def run_ranks(job: Job, world: int, resume: Path | None = None) -> list[Record]:
    """Train ``job`` on ``world`` new processes; rank 0's records. Checkpoints are in ``<job folder>/checkpoints``.

    Raises:
        RuntimeError: a rank failed; the message is its last output.
    """
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.json").write_text(job.model_dump_json())
    processes = []
    for rank in range(world):
        arguments = [str(folder / "job.json"), str(rank), str(world), *([str(resume)] if resume else [])]
        environment = os.environ | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        environment |= {"OMP_NUM_THREADS": "1"}
        with open(folder / f"rank-{rank}.log", "w") as log:
            command = [sys.executable, "-m", "tests.helpers.ranks", *arguments]
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    end = time.monotonic() + _SECONDS
    try:
        while any(process.poll() is None for process in processes) and time.monotonic() < end:
            if any(process.poll() for process in processes):  # the others would wait for it
                break
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for rank, process in enumerate(processes):
        if process.returncode > 0:
            raise RuntimeError((folder / f"rank-{rank}.log").read_text()[-3000:])
    records: list[Record] = json.loads((folder / "records.json").read_text())
    return records


def main() -> None:
    """One rank."""
    job = Job.model_validate_json(Path(sys.argv[1]).read_text())
    rank, world = int(sys.argv[2]), int(sys.argv[3])
    resume = Path(sys.argv[4]) if len(sys.argv) > 4 else None
    folder = Path(job.folder)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    reporter = ListReporter()
    try:
        train(job, reporter, device=torch.device("cpu"), resume=resume)
    except UserError as error:
        sys.exit(str(error))
    if rank == 0:
        (folder / "records.json").write_text(json.dumps(reporter.records))
    dist.barrier()


if __name__ == "__main__":
    main()
