"""What `steady plan` says about memory: each ZeRO stage by part, whether it fits, and what to change."""

from __future__ import annotations

from rich import box
from rich.table import Table

from cluster.console import console
from cluster.workflow import Planned
from training.memory import GB, STAGES, Load, advice, largest_micro_batch, memory

_PARTS = {  # field -> heading; all of the table must fit into 80 columns
    "weights": "weights",
    "gradients": "grads",
    "optimizer": "Adam",
    "activations": "activ.",
    "logits": "logits",
    "buffers": "buffers",
    "overhead": "other",
}


def show_memory(planned: list[Planned], gpu: str | None, capacity: float | None) -> None:
    """One table for all runs that need the same memory.

    Args:
        gpu: name of the GPU, if known.
        capacity: its memory in bytes, if known; without it only the need is shown.
    """
    for load, names in _groups(planned):
        _show(load, names if len(planned) > len(names) else [], gpu, capacity)


def _groups(planned: list[Planned]) -> list[tuple[Load, list[str]]]:
    """Runs by what they need at every stage, in their order."""
    groups: list[tuple[Load, list[str]]] = []
    for plan in planned:
        for load, names in groups:
            same_need = all(memory(load.at(zero_stage=s)) == memory(plan.load.at(zero_stage=s)) for s in STAGES)
            if same_need and load.training.zero_stage == plan.load.training.zero_stage:
                names.append(plan.name)
                break
        else:
            groups.append((plan.load, [plan.name]))
    return groups


def _show(load: Load, names: list[str], gpu: str | None, capacity: float | None) -> None:
    training = load.training
    console.print(
        f"[bold]Memory[/bold] of each GPU, estimated in GB{' for ' + ', '.join(names) if names else ''}: "
        f"{training.workers} worker(s), {_precision(load)}, micro_batch {training.micro_batch} x "
        f"{training.sequence_length:,} tokens, activation checkpointing {'on' if training.activation_checkpointing else 'off'}"
    )
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    table.add_column("ZeRO")
    for heading in (*_PARTS.values(), "total"):
        table.add_column(heading, justify="right")
    if capacity is not None:
        table.add_column(f"fits {capacity / GB:.0f} GB")
        table.add_column("max. micro_batch", justify="right")
    for stage in STAGES:
        table.add_row(
            *_row(load.at(zero_stage=stage), capacity), style="bold" if stage == training.zero_stage else None
        )
    console.print(table)
    if capacity is None:
        console.print("  memory of the GPU is not known here: name its type, training.gpu=H100, to see what fits")
    elif line := advice(load, capacity):
        console.print(f"  [bold]ZeRO {training.zero_stage} does not fit {gpu or 'the GPU'}[/bold]: {line}")


def _precision(load: Load) -> str:
    if not load.half:
        return "fp32"
    return "fp16" if load.training.precision == "fp16" else "bf16"


def _row(load: Load, capacity: float | None) -> list[str]:
    need = memory(load)
    cells = [str(load.training.zero_stage), *(f"{getattr(need, part) / GB:.1f}" for part in _PARTS)]
    cells.append(f"{need.total / GB:.1f}")
    if capacity is not None:
        most = largest_micro_batch(load, capacity)
        cells += ["yes" if need.total <= capacity else "no", str(most) if most else "none"]
    return cells
