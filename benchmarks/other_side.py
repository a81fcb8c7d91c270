"""What the programs that Steady is compared with have in common: their arguments, batches, model and result.

Each is started by torchrun, ``python -m torch.distributed.run -m benchmarks.<name> JOB.json``, beside ``rows.npy`` with all
batches, written beforehand.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from benchmarks.training_sample import VOCABULARY
from ground.files import canonical_json, write_atomic
from pipelines.store import TokenStore
from training.feed import Feed
from training.job import Job
from training.model import build_model

ROWS, LOSSES = "rows.npy", "losses.json"


def write_rows(store: TokenStore, job: Job) -> None:
    """All batches of the job, int64 [steps * B, L], into its folder."""
    plan = job.build_plan(store)
    feed = Feed(store, plan, rank=0, world=1, micro_batch=plan.batch_sequences)
    rows = [part.tokens.numpy() for step in range(plan.steps) for part in feed.micro_batches(step)]
    np.save(Path(job.folder) / ROWS, np.concatenate(rows))


def read_job() -> tuple[Job, torch.Tensor]:
    """The job named on the command line and its rows."""
    job = Job.model_validate_json(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job.training.threads or 1)
    return job, torch.from_numpy(np.load(Path(job.folder) / ROWS))


def same_model(job: Job) -> nn.Module:
    """The model with the weights that Steady begins with."""
    return build_model(job.model, vocabulary=VOCABULARY, end_of_document=0, seed=job.seed, checkpointing=False)


def rank() -> int:
    """As torchrun says."""
    return int(os.environ["RANK"])


def write_losses(job: Job, losses: list[torch.Tensor]) -> None:
    """Average each step's loss over the ranks, after all steps, and let rank 0 write them."""
    joined = torch.stack(losses).float()
    dist.all_reduce(joined)
    if rank() == 0:
        content = (joined / dist.get_world_size()).tolist()
        write_atomic(Path(job.folder) / LOSSES, canonical_json({"losses": content}))
