"""The table of all trials of a search: what each was, how far it came, what was foretold of it and what came."""

from __future__ import annotations

from tracking.figures import NONE, count
from tracking.html import Cell, Row, details, paragraph, section, table
from tracking.search_data import SearchData
from tracking.search_parts import Estimate, TrialData
from tracking.search_text import epochs, fine, rate, share, spelled, with_error

_ORDER = ("finished", "running", "paused", "failed", "diverged")
_SHOWN = 25
"""Rows that stand open; the rest is one click away."""


def trial_table(data: SearchData) -> str:
    """Best first; empty before the first trial."""
    if not data.trials:
        return ""
    trials = sorted(data.trials, key=lambda trial: (_ORDER.index(trial.state), _rank(trial), trial.number))
    note = (
        "Finished trials first, the lowest expected objective on top (noise taken out: it may differ in order "
        "from what was "
        "reported). Reported: at the tokens it came to. Foretold: before the last job started; the first design "
        "had no forecast."
    )
    if data.kind == "pareto":
        note = note.replace("lowest expected objective", f"lowest {spelled(data.domain_metric)}").replace(
            " (noise taken out: it may differ in order from what was reported)", ""
        )
    parts = [paragraph(note, "note"), _table(data, trials[:_SHOWN])]
    if len(trials) > _SHOWN:
        parts.append(details(f"The other {len(trials) - _SHOWN} trials", _table(data, trials[_SHOWN:])))
    return section("trials", "All trials", *parts)


def _rank(trial: TrialData) -> float:
    value = trial.expected if trial.expected is not None else trial.domain
    return float("inf") if value is None else value


def _table(data: SearchData, trials: list[TrialData]) -> str:
    rated = any(trial.knobs.learning_rate is not None for trial in data.trials)
    aimed = data.kind == "tolerance"
    head: list[Cell | str] = ["trial", "state", "subset S", "epochs E", "share", *(["rate"] * rated), "tokens"]
    before = len(head)
    head += ["reported", "foretold", "reported", "foretold", *(["objective"] * aimed), "why"]
    groups = [("", before), (spelled(data.domain_metric), 2), (spelled(data.general_metric), 2)]
    groups += [("expected", 1), ("", 1)] if aimed else [("", 1)]
    return table(head, [_row(data, trial, rated, aimed) for trial in trials], groups)


def _row(data: SearchData, trial: TrialData, rated: bool, aimed: bool) -> Row:
    best = data.best is not None and trial.number == data.best.trial
    row: list[Cell | str] = [
        Cell(str(trial.number), strong=best, swatch="var(--run-1)" if best else "", note="best" if best else ""),
        Cell(trial.state, soft=trial.state != "finished"),
        count(trial.knobs.subset_tokens),
        epochs(trial.knobs.epochs),
        share(trial.knobs.share),
    ]
    row += [rate(trial.knobs.learning_rate)] * rated
    row += [count(trial.tokens)]
    row += [_reported(trial, trial.domain), _foretold(trial.foretold_domain)]
    row += [_reported(trial, trial.general), _foretold(trial.foretold_general)]
    row += [Cell(fine(trial.expected), strong=best)] * aimed
    return [*row, Cell(trial.reason, soft=True)]


def _reported(trial: TrialData, value: float | None) -> str:
    if value is None:
        return "not finite" if trial.state == "diverged" else NONE
    return fine(value)


def _foretold(said: Estimate | None) -> Cell:
    return Cell(with_error(said), soft=True)
