"""The run that the training benchmarks share: a 14 M parameter Llama, 2,048 tokens a step, one thread a worker.

A step takes 1 to 3 s on a processor core, far more than what a training program does around it.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.sample import random_store
from pipelines.config import MixtureConfig
from pipelines.store import TokenStore
from training.config import Architecture, EvaluationConfig, ModelConfig, ScheduleConfig, TrainingConfig
from training.evaluation import evaluation_steps
from training.flops import parameter_count
from training.job import Job

SHAPE = Architecture(hidden_size=384, layers=7, heads=6, intermediate_size=1024, max_positions=256)
VOCABULARY = 4096
LENGTH, BATCH, MICRO_BATCH = 256, 8, 4
BATCH_TOKENS = LENGTH * BATCH
WARM_UP = 2
"""First steps of a run that no benchmark counts: memory is allocated, kernels are chosen."""

_NEVER = 1 << 60
_STORE_TOKENS = 4_000_000


def sample_store(folder: Path, tokens: int = _STORE_TOKENS) -> TokenStore:
    """A store of random tokens from two sources, ``tokens`` each."""
    return random_store(
        folder,
        {"domain": ("domain", tokens), "general": ("general", tokens)},
        vocabulary=VOCABULARY,
        heldout=4 * LENGTH,
    )


def sample_job(
    store: TokenStore, folder: Path, *, steps: int, world: int, stage: int | None = None, checkpoint_steps: int = 0
) -> Job:
    """A run of so many steps with the recipe's defaults, at a constant rate.

    Args:
        stage: of ZeRO; absent: the recipe's default.
        checkpoint_steps: steps between checkpoints; 0: none. All stay on disk.
    """
    return Job(
        name="benchmark",
        folder=str(folder),
        seed=1,
        store=str(store.path),
        store_digest=store.digest,
        mixture=MixtureConfig(subset_tokens=steps * BATCH_TOKENS, shares={"domain": 0.8, "general": 0.2}),
        model=ModelConfig(init="random", architecture=SHAPE),
        training=TrainingConfig(
            sequence_length=LENGTH,
            global_batch_tokens=BATCH_TOKENS,
            micro_batch=MICRO_BATCH,
            workers=world,
            accelerator="cpu",
            threads=1,
            zero_stage=default_stage() if stage is None else stage,
            learning_rate=3e-4,
            schedule=ScheduleConfig(kind="constant", warmup_ratio=0.0),
            checkpoint_tokens=checkpoint_steps * BATCH_TOKENS or _NEVER,
            keep_checkpoints=steps,
        ),
        evaluation=EvaluationConfig(points=1, sequences=1, layer_updates=False),
    )


def default_stage() -> int:
    """The recipe's default ZeRO stage."""
    return TrainingConfig().zero_stage


def uncounted_steps(job: Job, steps: int) -> set[int]:
    """Steps (from 1) that no benchmark counts: the first, and those after which held-out losses are measured."""
    return {*range(1, WARM_UP + 1), *evaluation_steps(steps, job.evaluation.points)}


def settings(job: Job) -> dict[str, int]:
    """What a reader of a result must know of the run."""
    return {
        "parameters": parameter_count(SHAPE, VOCABULARY),
        "batch_tokens": BATCH_TOKENS,
        "sequence_length": LENGTH,
        "micro_batch": MICRO_BATCH,
        "threads_per_worker": 1,
        "zero_stage": job.training.zero_stage,
    }
