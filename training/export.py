"""From a DeepSpeed engine to a Hugging Face folder that everyone loads."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def export_model(engine: Any, tokenizer: Path, target: Path, *, zero_stage: int) -> None:
    """Write ``target`` (safetensors, config, tokenizer) from rank 0; all ranks call this together.

    The folder appears whole under its name or not at all.
    """
    weights = _whole_weights(engine, zero_stage)
    if dist.get_rank() == 0:
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        engine.module.save_pretrained(temporary, state_dict=weights, safe_serialization=True)
        for file in sorted(tokenizer.iterdir()):
            shutil.copy2(file, temporary / file.name)
        shutil.rmtree(target, ignore_errors=True)
        temporary.replace(target)
    if dist.get_world_size() > 1:
        dist.barrier()


def _whole_weights(engine: Any, zero_stage: int) -> dict[str, torch.Tensor]:
    """Full weights on rank 0's CPU (elsewhere an empty dict), one parameter at a time under ZeRO-3."""
    if zero_stage < 3:
        return {name: value.detach().cpu() for name, value in engine.module.state_dict().items()}
    import deepspeed  # loaded already by the engine; imported here to keep this module cheap

    weights = {}
    for name, parameter in engine.module.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter]):
            if dist.get_rank() == 0:
                weights[name] = parameter.detach().cpu().clone()
    return weights
