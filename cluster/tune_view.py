"""What `steady tune` prints: the search before it begins, a line for each job, the best recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cluster.console import console, count, duration
from cluster.tune_setup import Setup
from tracking.search_data import SearchData
from tracking.search_text import chance
from tuning.earlier import Earlier
from tuning.history import Result
from tuning.ledger import State
from tuning.proxy import Finalist
from tuning.trial import trial_name


def show_setup(setup: Setup, mlflow: str, earlier: Earlier, *, begun: bool) -> None:
    """What will be searched and what it may cost."""
    space, budgets, config = setup.space, setup.budgets, setup.config
    cost = setup.planned.estimate
    each = cost.seconds / cost.tokens if cost.seconds else None
    time = f", about {duration(each * budgets.whole / config.max_concurrent)}" if each else ""
    rate = "" if space.learning_rate is None else ", learning rate {:g} to {:g}".format(*space.learning_rate)
    epochs = "E {:g} to {:g}".format(*space.epochs)
    share = "domain share {:g} to {:g}".format(*space.share)
    console.print(
        f"{'going on with' if begun else 'searching'} {epochs}, {share}{rate} for runs of {count(budgets.run)} tokens"
    )
    console.print(
        f"budget {count(budgets.whole)} tokens ({budgets.whole / budgets.run:.3g} runs){time}, "
        f"{config.max_concurrent} trial(s) at once; MLflow at {mlflow}"
    )
    if config.earlier:
        known, first = len(earlier.trials), len(earlier.points)
        console.print(f"of earlier searches {known} trials are known, {first} recipes are tried first")


def show_result(setup: Setup, result: Result, account: State) -> None:
    """One line for a job that ended."""
    job, objective = result.job, setup.config.objective
    point = job.point
    rate = "" if point.learning_rate is None else f", lr {point.learning_rate:.2g}"
    last = result.reports[-1].metrics if result.reports else {}
    values = ", ".join(
        f"{name} {last[name]:.4f}" for name in (objective.domain_metric, objective.general_metric) if name in last
    )
    reached = job.end / point.tokens
    console.print(
        f"  {trial_name(job.trial)} {'FAILED before' if result.state == 'failed' else 'at'} {reached:4.0%}  "
        f"S {count(point.subset_tokens)} x E {point.epochs:.3g}, share {point.share:.2f}{rate}: {values}  "
        f"(spent {account.settled / account.budget:.0%})"
    )


def show_finalists(setup: Setup, chosen: Sequence[Finalist]) -> None:
    """What will be confirmed."""
    trials = ", ".join(str(one.trial) for one in chosen) or "none: no trial has finished"
    console.print(f"confirming at {count(setup.budgets.run)} tokens with the recipe's own settings: trials {trials}")


def show_confirmed(data: SearchData, recipe: Path) -> None:
    """Whether ranks kept."""
    ranks = "too few to say" if data.rank_correlation is None else f"{data.rank_correlation:.2f}"
    console.print(f"confirmed: rank correlation of the finalists {ranks}; the best of them: {recipe}")


def show_status(folder: Path, account: State, seconds: float) -> None:
    """Spent, reserved, left."""
    console.print(f"search in {folder}, {duration(seconds)} so far")
    for name, tokens in (("spent", account.settled), ("reserved", account.reserved), ("left", account.left)):
        console.print(f"  {name:9s}{tokens:18,.0f} tokens  {tokens / account.budget:6.1%}")
    console.print(f"  of       {account.budget:18,.0f} tokens; {account.device_seconds:,.0f} device-seconds settled")
    for job, tokens in account.open.items():
        console.print(f"  {job} holds {tokens:,.0f} tokens")


def show_best(data: SearchData, best: Path, page: Path) -> None:
    """The recipe handed over."""
    found = data.best
    if found is None:
        console.print("no trial has finished; there is no best recipe yet")
        return
    knobs = found.knobs
    rate = "" if knobs.learning_rate is None else f", learning rate {knobs.learning_rate:.3g}"
    console.print(
        f"[bold]best[/bold] trial {found.trial}: S {count(knobs.subset_tokens)} x E {knobs.epochs:.3g}, domain share "
        f"{knobs.share:.3f}{rate}"
    )
    console.print(
        f"  domain {found.domain.mean:.4f} ± {found.domain.sd:.4f} (base {data.base_domain:.4f}), general "
        f"{found.general.mean:.4f} ± {found.general.sd:.4f} (base {data.base_general:.4f}); best of all finished with "
        f"probability {chance(found.probability)}"
    )
    console.print(f"train it: steady train {best}")
    console.print(f"report {page}; the same in MLflow")
