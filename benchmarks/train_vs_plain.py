"""Steady's training core against a plain PyTorch loop, step by step in one process.

Whenever Steady reports a step, the plain loop takes the same step: the same model, weights, tokens, optimiser and
threads. So each pair of times is taken within seconds, and the two losses must agree, which shows that the same work
was done. Steady's time runs from the end of one report to the next and so holds everything it does (feed, engine,
schedule, records) but held-out evaluation, which the plain loop does not do either.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks.harness import Benchmark, Measured, paired_ratio, spread
from benchmarks.sample import random_store
from pipelines.config import MixtureConfig
from pipelines.store import TokenStore
from training.config import Architecture, EvaluationConfig, ModelConfig, TrainingConfig
from training.feed import Feed
from training.flops import parameter_count
from training.job import Job, Record
from training.loop import train
from training.model import build_model, causal_loss

_SHAPE = Architecture(hidden_size=384, layers=7, heads=6, intermediate_size=1024, max_positions=256)
_VOCABULARY = 4096
_LENGTH, _BATCH, _MICRO_BATCH, _THREADS = 256, 8, 4, 1
_WARM_UP, _PAIRS = 2, 15
_STAGES = (0, 1)
_SAME_LOSS = 1e-4
_NEVER = 1 << 60


def run() -> Measured:
    """Both ZeRO stages that make sense with one worker; the value is that of the recipe's default."""
    torch.set_num_threads(_THREADS)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ.update(LOCAL_RANK="0", RANK="0", WORLD_SIZE="1")
        dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
        tokens = (_WARM_UP + _PAIRS + 1) * _BATCH * _LENGTH
        sources = {"domain": ("domain", tokens), "general": ("general", tokens)}
        store = random_store(folder / "store", sources, vocabulary=_VOCABULARY, heldout=4 * _LENGTH)  # type: ignore[arg-type]
        stages = {stage: _pairs(store, folder / f"stage-{stage}", stage) for stage in _STAGES}

    batch_tokens = _BATCH * _LENGTH
    default = TrainingConfig().zero_stage
    plain = stages[default].plain
    details = {
        f"zero_{stage}": {
            "ratio": paired_ratio(pairs.ours, pairs.plain),
            "steady_step_s": spread(pairs.ours),
            "plain_step_s": spread(pairs.plain),
            "ratio_of_processor_time": paired_ratio(pairs.ours_processor, pairs.plain_processor),
            "largest_loss_difference": pairs.difference,
        }
        for stage, pairs in stages.items()
    }
    settings = {
        "parameters": parameter_count(_SHAPE, _VOCABULARY),
        "batch_tokens": batch_tokens,
        "sequence_length": _LENGTH,
        "micro_batch": _MICRO_BATCH,
        "threads": _THREADS,
        "pairs": _PAIRS,
        "default_zero_stage": default,
    }
    ratio = paired_ratio(stages[default].ours, plain)["median"]
    baseline = {"name": "plain PyTorch loop", "value": batch_tokens / spread(plain)["median"], "unit": "tokens/s"}
    return Measured(ratio, baseline, details | settings)


def _pairs(store: TokenStore, folder: Path, stage: int) -> _SideBySide:
    steps = _WARM_UP + _PAIRS
    job = Job(
        name="benchmark",
        folder=str(folder),
        seed=1,
        store=str(store.path),
        store_digest=store.digest,
        mixture=MixtureConfig(subset_tokens=steps * _BATCH * _LENGTH, shares={"domain": 0.8, "general": 0.2}),
        model=ModelConfig(init="random", architecture=_SHAPE),
        training=TrainingConfig(
            sequence_length=_LENGTH,
            global_batch_tokens=_BATCH * _LENGTH,
            micro_batch=_MICRO_BATCH,
            accelerator="cpu",
            threads=_THREADS,
            zero_stage=stage,
            learning_rate=3e-4,
            checkpoint_tokens=_NEVER,
        ),
        evaluation=EvaluationConfig(points=1, sequences=1),
    )
    pairs = _SideBySide(_Plain(store, job))
    train(job, pairs, device=torch.device("cpu"))
    return pairs


class _Plain:
    """The loop that anyone would write, its batches read beforehand."""

    def __init__(self, store: TokenStore, job: Job) -> None:
        settings = job.training
        plan = job.build_plan(store)
        feed = Feed(store, plan, rank=0, world=1, micro_batch=settings.micro_batch)
        self._batches = [[rows.tokens for rows in feed.micro_batches(step)] for step in range(plan.steps)]
        self._model = build_model(
            job.model, vocabulary=store.manifest.vocabulary, end_of_document=0, seed=job.seed, checkpointing=False
        )
        self._model.train()
        matrices = [p for p in self._model.parameters() if p.dim() > 1]
        vectors = [p for p in self._model.parameters() if p.dim() <= 1]
        self._clip, self._parameters = settings.gradient_clip, matrices + vectors
        self._optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": settings.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            betas=(settings.beta1, settings.beta2),
            eps=settings.epsilon,
            fused=True,
        )

    def step(self, index: int, rate: float) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        batch, losses = self._batches[index], []
        for tokens in batch:
            loss = causal_loss(self._model, tokens)
            (loss / len(batch)).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        torch.nn.utils.clip_grad_norm_(self._parameters, self._clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return float(torch.stack(losses).mean())


class _SideBySide:
    """A reporter that lets the plain loop take every step after Steady, and times both."""

    def __init__(self, plain: _Plain) -> None:
        self._plain = plain
        self.ours: list[float] = []
        self.plain: list[float] = []
        self.ours_processor: list[float] = []
        self.plain_processor: list[float] = []
        self.difference = 0.0
        self._since = _now()

    def record(self, record: Record) -> None:
        metrics = record["metrics"]
        if "train/loss" in metrics:
            ours, between = _now(), _now()
            loss = self._plain.step(record["step"] - 1, metrics["train/learning_rate"])
            end = _now()
            self.difference = max(self.difference, abs(loss - metrics["train/loss"]))
            assert self.difference < _SAME_LOSS, f"the loops differ: {loss} against {metrics['train/loss']}"
            if record["step"] > _WARM_UP:
                self.ours.append(ours[0] - self._since[0])
                self.ours_processor.append(ours[1] - self._since[1])
                self.plain.append(end[0] - between[0])
                self.plain_processor.append(end[1] - between[1])
        self._since = _now()

    def notice(self, text: str) -> None:
        """Nothing is to be told."""


def _now() -> tuple[float, float]:
    """Seconds by the clock and of this process's work; the second is steadier on a busy machine."""
    return time.perf_counter(), time.process_time()


BENCHMARK = Benchmark(
    name="train_vs_plain",
    unit="x",
    goal=0.95,
    higher_is_better=True,
    measures="tokens/s of Steady's training core on one worker (DeepSpeed, the recipe's default ZeRO stage) over a "
    "plain PyTorch loop with the same 14 M parameter Llama, batches, fused AdamW, clipping and threads, step by step "
    "in turn; the median of the ratios of neighbouring steps.",
    run=run,
)
