"""The Hugging Face Trainer with its defaults, started by torchrun.

Not its defaults: what the comparison fixes (batch, rate, betas, decay, order of the rows, no checkpoints, processor
instead of GPU) and no progress bar. It logs every 500 steps, as it does by default, so never here.
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from benchmarks.other_side import rank, read_job, same_model, write_losses
from benchmarks.turns import Gate
from training.job import Job


def main() -> None:
    """Train all steps of the job."""
    job, rows = read_job()
    with tempfile.TemporaryDirectory() as scratch:
        arguments = _arguments(job, scratch)
        trainer = _Trainer(
            model=same_model(job), args=arguments, train_dataset=_Rows(rows), callbacks=[_Turns(Gate("other", rank()))]
        )
        trainer.train()
    parts = torch.stack(trainer.losses).view(-1, arguments.gradient_accumulation_steps)
    write_losses(job, list(parts.sum(dim=1)))


def _arguments(job: Job, folder: str) -> TrainingArguments:
    settings = job.training
    return TrainingArguments(
        output_dir=folder,
        use_cpu=True,
        ddp_backend="gloo",
        per_device_train_batch_size=settings.micro_batch,
        gradient_accumulation_steps=settings.batch_sequences // (settings.workers * settings.micro_batch),
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        optim="adamw_torch_fused",
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant",
        adam_beta1=settings.beta1,
        adam_beta2=settings.beta2,
        adam_epsilon=settings.epsilon,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.gradient_clip,
        dataloader_pin_memory=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=job.seed,
    )


class _Rows(Dataset[dict[str, torch.Tensor]]):
    """The rows in the form that the default collator joins."""

    def __init__(self, rows: torch.Tensor) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self._rows[index], "labels": self._rows[index]}


class _Trainer(Trainer):
    """Keeps the losses, whose mean over 500 steps it would else log."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.losses: list[torch.Tensor] = []

    def training_step(self, *arguments: Any, **options: Any) -> torch.Tensor:
        """One micro-batch."""
        loss: torch.Tensor = super().training_step(*arguments, **options)
        self.losses.append(loss)
        return loss


class _Turns(TrainerCallback):
    """Waits before each step."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """An optimiser step begins."""
        self._gate.wait()


if __name__ == "__main__":
    main()
