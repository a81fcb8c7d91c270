"""Plain DeepSpeed: the loop of its tutorials, started by torchrun.

It gets everything that makes Steady fast: the same engine settings, torch's fused AdamW, the loss without a copy of the
logits, and its batches from memory.
"""

from __future__ import annotations

import os

import torch

from benchmarks.other_side import rank, read_job, same_model, write_losses
from benchmarks.turns import Gate
from training.deepspeed_import import skip_shared_memory_kernel
from training.engine import deepspeed_config
from training.model import causal_loss


def main() -> None:
    """Train all steps of the job."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed

    skip_shared_memory_kernel(deepspeed)
    job, rows = read_job()
    settings = job.training
    deepspeed.init_distributed("gloo", verbose=False)
    world = int(os.environ["WORLD_SIZE"])
    model = same_model(job)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )
    config = deepspeed_config(settings, world=world, precision="fp32", on_cpu=True)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)

    batches = rows.view(-1, world, settings.batch_sequences // world, settings.sequence_length)[:, rank()]
    losses = []
    gate = Gate("other", rank())
    for batch in batches:
        gate.wait()
        total = torch.zeros(())
        micro_batches = batch.split(settings.micro_batch)
        for tokens in micro_batches:
            loss = causal_loss(engine, tokens)
            engine.backward(loss)
            engine.step()
            total += loss.detach() / len(micro_batches)
        losses.append(total)
    write_losses(job, losses)


if __name__ == "__main__":
    main()
