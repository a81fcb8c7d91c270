"""What the terminal shows: the plan, live progress, the comparison of runs."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from cluster.workflow import Finished, Planned
from training.job import Record

# A log file has no width of its own; tables cut to 80 columns are hard to read there.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def count(value: float) -> str:
    """A count for people: 950, 12.3 k, 4.56 M, 1.2 B, 3 T."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def duration(seconds: float | None) -> str:
    """A duration for people: 40 s, 12 min, 3.5 h, 9 days."""
    if seconds is None:
        return "unknown"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def show_plan(planned: list[Planned], device: str) -> None:
    """Tokens, steps, FLOPs, time, shares, repetitions and effective tokens of every run."""
    first = planned[0]
    console.print(
        f"[bold]Plan[/bold] for a model of {count(first.estimate.parameters)} parameters on "
        f"{first.recipe.training.workers} {device} worker(s); time from {first.estimate.basis}"
    )
    for plan in planned:
        rounded = [
            f"{name} {share:g} -> {plan.plan.shares[name]:.5f}"
            for name, share in plan.plan.requested_shares.items()
            if abs(share - plan.plan.shares[name]) > 1e-9 and plan.recipe.mixture.shares is not None
        ]
        if rounded:
            console.print(f"  shares of {plan.name} were rounded: {', '.join(rounded)}")
    table = Table()
    table.add_column("")
    rows = plan_rows(planned[0])
    for plan in planned:
        table.add_column(plan.name, justify="right")
    for label in rows:
        table.add_row(label, *(plan_rows(plan)[label] for plan in planned))
    console.print(table)


def plan_rows(planned: Planned) -> dict[str, str]:
    """Label -> value for one run's plan, the same labels for every run."""
    plan, cost, mixture = planned.plan, planned.estimate, planned.recipe.mixture
    uses = {use.name: use for use in plan.use()}
    subset = f"{'best' if mixture.select == 'quality' else 'random'} {count(plan.epoch_tokens)} tokens"
    shares = ", ".join(f"{name} {uses[name].share:.1%}" for name in sorted(uses, key=lambda n: -uses[n].share))
    repeats = ", ".join(f"{name} {uses[name].repetition:.2f}" for name in sorted(uses, key=lambda n: -uses[n].share))
    return {
        "tokens": count(cost.tokens),
        "optimiser steps": f"{cost.steps:,}",
        "compute": f"{cost.flops:.2e} FLOP",
        "estimated time": duration(cost.seconds),
        "one epoch": f"{count(plan.epoch_sequences * plan.sequence_length)} tokens",
        "epochs": f"{mixture.epochs:g}",
        "domain subset": subset if cost.domain_tokens else "-",
        "redraw": mixture.redraw if cost.domain_tokens else "-",
        "shares": shares,
        "times seen": repeats,
        "domain tokens seen": count(cost.domain_tokens) if cost.domain_tokens else "-",
        "different domain tokens": count(cost.domain_unique_tokens) if cost.domain_tokens else "-",
        "effective domain tokens": count(cost.domain_effective_tokens) if cost.domain_tokens else "-",
        "learning rate": f"{planned.recipe.training.learning_rate:g}, {planned.recipe.training.schedule.kind}",
    }


class RunProgress:
    """Live progress of one run: step, loss, speed, time left. Use as a context manager."""

    def __init__(self, name: str, steps: int) -> None:
        self._bar = Progress(
            TextColumn("[bold]{task.fields[name]}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=steps, name=name, state="starting workers (about 20 s)")
        self._name, self._steps, self._printed = name, steps, -math.inf

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def take(self, record: Record) -> None:
        """Show one record."""
        metrics = record["metrics"]
        if "train/loss" not in metrics:
            return
        state = f"step {record['step']}/{self._steps}  loss {metrics['train/loss']:.3f}  "
        state += f"{metrics['train/tokens_per_second']:,.0f} tokens/s"
        self._bar.update(self._task, completed=record["step"], state=state)
        due = time.monotonic() - self._printed > 15 or record["step"] == self._steps
        if not console.is_terminal and due:  # a log file gets a line now and then
            self._printed = time.monotonic()
            console.print(f"  {self._name}: {state}")


def show_results(finished: list[Finished], roles: Mapping[str, str]) -> None:
    """Held-out loss before and after, and the gap, for every run and source."""
    table = Table(title="Held-out loss (nats per token) and stability gap", title_justify="left", title_style="bold")
    table.add_column("run")
    table.add_column("source")
    for heading in ("base", "end", "change", "gap depth", "recovered after", "gap area"):
        table.add_column(heading, justify="right")
    for run in finished:
        for index, (source, gap) in enumerate(
            sorted(run.gaps.items(), key=lambda item: (roles.get(item[0]) != "domain", item[0]))
        ):
            curve = run.curves[f"heldout/{source}/loss"]
            base, end = curve[0][1], curve[-1][1]
            recovered = (
                "no gap"
                if gap.depth == 0
                else "not in this run"
                if gap.recovery_tokens is None
                else f"{count(gap.recovery_tokens)} tokens"
            )
            table.add_row(
                run.name if index == 0 else "",
                f"{source} ({roles.get(source, '?')})",
                f"{base:.3f}",
                f"{end:.3f}",
                f"{end - base:+.3f}",
                f"{gap.depth:.3f}",
                recovered,
                f"{count(gap.area)}",
            )
        table.add_section()
    console.print(table)
