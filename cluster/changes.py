"""Going on with a run under other settings: what may change, what never can, and the record of what did."""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ground.config import Section
from ground.errors import CorruptError, UserError
from ground.files import canonical_json, digest_bytes, write_atomic
from tracking.history import read_history
from training.job import Job

CHANGES = "changes.json"
"""In a run's folder: its changes of settings, the first one first."""

_PLAN = "it decides which tokens come at which step, so that the rest of the run would repeat some and miss others"
_MODEL = "the run's weights come from this model, and its gap is measured against it"
_STATES = "the checkpoint's optimizer states are laid out for it"
_MEASURE = "the gap compares with the base, which was measured on other text"

# Never once the run has begun. What is in none of these lists may change, and only when the user says so.
_NEVER = {
    "name": _PLAN,
    "seed": _PLAN,
    "store_digest": _PLAN,
    "mixture": _PLAN,
    "training.sequence_length": _PLAN,
    "training.global_batch_tokens": _PLAN,
    "model": _MODEL,
    "base_digest": _MODEL,
    "training.zero_stage": _STATES,
    "training.offload": _STATES,
    "training.precision": _STATES,
    "training.accelerator": _STATES,
    "training.freeze_bottom": _STATES,
    "training.freeze_top": _STATES,
    "evaluation.sequences": _MEASURE,
    "evaluation.sources": _MEASURE,
}
_ELSE = "give the recipe another name or work folder, or remove the run's folder"
_ABSENT = object()


@dataclass(frozen=True)
class Difference:
    """One setting before and now."""

    field: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.field}: {_shown(self.before)} -> {_shown(self.now)}"


class Change(Section):
    """One time that a run went on under other settings."""

    time: str
    """UTC, ISO 8601."""
    step: int
    """Of the newest checkpoint then: from this optimiser step on the new settings hold."""
    recorded_step: int
    """Last step that was recorded under the settings before: points once recorded stay, so that up to here the curves show the
    course that was given up."""
    digest: str
    """Of the settings before."""
    changed: dict[str, tuple[Any, Any]]
    """Field -> (before, now)."""

    def describe(self) -> str:
        """One line."""
        fields = ", ".join(str(Difference(field, *values)) for field, values in self.changed.items())
        given_up = f" (curves up to step {self.recorded_step} are of before)" if self.recorded_step > self.step else ""
        return f"{self.time}, step {self.step}{given_up}: {fields}"


def check_allowed(names: Sequence[str]) -> None:
    """Check the fields that the user allows to change.

    Raises:
        UserError: one does not exist, or can never change.
    """
    known = [name for section in ("training", "evaluation") for name in _names(section)]
    for name in names:
        if why := _why_never(name):
            raise UserError("--allow", f"{name} can never change in a run ({why})", _ELSE)
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1) if "." in name else []
            mend = f"use {close[0]}" if close else "name a field of training or evaluation, as training.learning_rate"
            raise UserError("--allow", f"{name!r} is no field that could change", mend)


def settle(path: Path, job: Job, allow: Sequence[str], *, complete: bool) -> Job:
    """The job, with the digests of earlier settings that its checkpoints may bear. A new run's settings are written down;
    a change of settings is only checked here, and written by :func:`record_change`.

    Args:
        path: the run's settings, in its folder.
        allow: fields, or sections of fields, that may change.
        complete: the run has ended.

    Raises:
        UserError: the folder belongs to a run with other settings.
        CorruptError: a file of the folder is damaged.
    """
    now = job.identity()
    if not path.is_file():
        write_atomic(path, canonical_json(now))
        return job
    before = _read(path)
    found = list(differences(before, now))
    if found:
        _check(path.parent, job.name, found, allow, complete=complete)
    known = {change.digest for change in read_changes(path.parent)} | {_digest(before)}
    return job.model_copy(update={"allowed_digests": tuple(sorted(known - {job.digest()}))})


def record_change(path: Path, job: Job) -> list[Change]:
    """Write down the settings that a run goes on with; its changes so far. Call it as the only writer of the run.

    Raises:
        UserError: another command has changed the settings since :func:`settle`.
    """
    folder, now = path.parent, job.identity()
    before, changes = _read(path), read_changes(path.parent)
    if before == now:
        return changes
    digest = _digest(before)
    if digest not in job.allowed_digests:
        raise UserError(f"runs.{job.name}", f"another command has changed {path}", "start this one again")
    if has_begun(folder):
        fields = {found.field: (_plain(found.before), _plain(found.now)) for found in differences(before, now)}
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        recorded = _last_tokens(folder) // job.training.global_batch_tokens
        change = Change(time=when, step=_newest_step(folder), recorded_step=recorded, digest=digest, changed=fields)
        if not changes or (changes[-1].digest, changes[-1].changed) != (change.digest, change.changed):
            changes = [*changes, change]  # else a kill came between the two writes
        write_atomic(folder / CHANGES, canonical_json({"changes": [one.model_dump(mode="json") for one in changes]}))
    write_atomic(path, canonical_json(now))
    return changes


def read_changes(folder: Path) -> list[Change]:
    """The changes of a run's settings so far.

    Raises:
        CorruptError: their file is damaged.
    """
    path = folder / CHANGES
    if not path.is_file():
        return []
    try:
        return [Change.model_validate(kept) for kept in json.loads(path.read_text())["changes"]]
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise CorruptError(str(path), f"is damaged ({type(error).__name__})", _ELSE) from None


def change_tags(changes: Sequence[Change]) -> dict[str, str]:
    """Tags for MLflow: such a run is no longer a function of its parameters alone."""
    if not changes:
        return {}
    lines = {f"steady.change.{number}": change.describe() for number, change in enumerate(changes, start=1)}
    return {"steady.changes": str(len(changes)), **lines}


def has_begun(folder: Path) -> bool:
    """Whether a run has taken a step, or left a checkpoint. Before that only the base was measured."""
    return bool(_checkpoints(folder)) or _last_tokens(folder) > 0


def differences(before: Any, now: Any, prefix: str = "") -> Iterator[Difference]:
    """Fields that differ, dotted, in order."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            name = f"{prefix}.{key}" if prefix else key
            yield from differences(before.get(key, _ABSENT), now.get(key, _ABSENT), name)
    elif before != now:
        yield Difference(prefix, before, now)


def _check(folder: Path, name: str, found: Sequence[Difference], allow: Sequence[str], *, complete: bool) -> None:
    """Raise UserError unless a run may go on with these differences."""
    text = f"{folder} holds a run with other settings ({', '.join(map(str, found))})"
    if complete:
        raise UserError(f"runs.{name}", text, f"it is complete: {_ELSE}")
    begun = has_begun(folder)
    never = [(one.field, why) for one in found if (why := _why_never(one.field)) and (begun or why != _STATES)]
    if never:
        reasons = "; ".join(
            f"{', '.join(field for field, why in never if why == reason)} can never change: {reason}"
            for reason in dict.fromkeys(why for _, why in never)
        )
        raise UserError(f"runs.{name}", text, f"{reasons}; {_ELSE}")
    missing = [one.field for one in found if not any(_covers(allowed, one.field) for allowed in allow)]
    if missing and begun:
        options = " ".join(f"--allow {field}" for field in missing)
        raise UserError(f"runs.{name}", text, f"add {options} to go on with the new ones, or {_ELSE}")


def _why_never(field: str) -> str | None:
    return next((why for name, why in _NEVER.items() if _covers(name, field)), None)


def _covers(name: str, field: str) -> bool:
    return field == name or field.startswith(f"{name}.")


def _names(section: str) -> Iterator[str]:
    """Dotted names of a job section's fields, sections below it included."""

    def walk(model: type[Section], prefix: str) -> Iterator[str]:
        for name, field in model.model_fields.items():
            yield f"{prefix}.{name}"
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                yield from walk(field.annotation, f"{prefix}.{name}")

    model = Job.model_fields[section].annotation
    assert isinstance(model, type) and issubclass(model, Section)
    return walk(model, section)


def _checkpoints(folder: Path) -> list[Path]:
    from training.checkpoint import (  # loads torch, which a run that goes on as it was need not wait for
        CHECKPOINTS,
        newest_first,
    )

    return newest_first(folder / CHECKPOINTS)


def _newest_step(folder: Path) -> int:
    found = _checkpoints(folder)
    return int(found[0].name.removeprefix("step-")) if found else 0


def _last_tokens(folder: Path) -> int:
    """Tokens seen at the last recorded step; 0 before the first."""
    curves = (points for name, points in read_history(folder).items() if name.startswith("train/"))
    return max((points[-1][0] for points in curves), default=0)


def _read(path: Path) -> dict[str, Any]:
    try:
        kept: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise CorruptError(str(path), f"is damaged ({type(error).__name__})", "remove the run's folder") from None
    return kept


def _digest(identity: Mapping[str, Any]) -> str:
    return digest_bytes(canonical_json(identity))


def _plain(value: Any) -> Any:
    return None if value is _ABSENT else value


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else json.dumps(value, ensure_ascii=False)
