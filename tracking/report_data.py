"""What a report shows, as plain frozen data with a JSON round trip, so that a report can be drawn again any time.

Losses are in nats per token (lower is better), counts in tokens, documents or bytes, durations in seconds, shares in
0..1. A curve is a tuple of (tokens seen, value), tokens ascending; its value at 0 tokens is the base model's.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ground.errors import CorruptError
from ground.files import canonical_json
from tracking.curation import SourceFunnel

Curve = tuple[tuple[int, float], ...]

FORMAT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """The model all runs start from."""

    name: str
    parameters: int | None = None
    losses: dict[str, float] = field(default_factory=dict)
    """Source -> held-out loss, nats per token."""
    bits_per_byte: dict[str, float] = field(default_factory=dict)
    """Source -> held-out bits per byte."""
    note: str = ""
    """For example unigram and n-gram baselines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """The stability gap of one run on one source, in terms of loss: a rise above the base is bad."""

    depth: float
    """Largest rise of the held-out loss above the base, 0 if it never rises."""
    area: float
    """Integral of the rise over tokens, nats per token x tokens."""
    recovery_tokens: int | None
    """Tokens at the first point after the worst one where the loss is back at the base; None: not within the run."""
    peak: float
    """Lowest held-out loss of the run: where the score peaks."""
    tokens_to_peak: int
    final: float
    """Held-out loss at the end."""
    forgetting: float
    """Final minus base loss; negative: better than the base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a run cost."""

    tokens: int
    seconds: float
    tokens_per_second: float
    mfu: float | None = None
    """Model FLOPs utilisation, 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """One training run."""

    name: str
    totals: Totals
    description: str = ""
    params: dict[str, str] = field(default_factory=dict)
    plan: dict[str, str] = field(default_factory=dict)
    """Label -> value, ready to print; the same labels in every run give one row each."""
    shares: dict[str, float] = field(default_factory=dict)
    """Source -> planned share."""
    curves: dict[str, Curve] = field(default_factory=dict)
    """Metric name -> curve: ``train/loss``, ``train/share/<source>``, ``heldout/<source>/loss`` and so on."""
    gaps: dict[str, Gap] = field(default_factory=dict)
    """Source -> gap metrics."""
    run_id: str = ""
    """MLflow's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """Accuracy minus another model's on the same items, as fractions of 1, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScore:
    """Accuracy on a task, or a group's mean, as fractions of 1."""

    name: str
    group: bool
    items: int
    accuracy: float
    stderr: float | None
    difference: PairedDifference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResults:
    """What one evaluation found of one model."""

    model: str
    """As it shall be printed."""
    run: str = ""
    """Name of the run whose model it is; empty: no run's."""
    against: str = ""
    """The model that the differences are taken from, as it shall be printed; empty: there are none."""
    scores: tuple[TaskScore, ...]
    """Groups, then tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """All of a report."""

    title: str
    created: str
    """Date and time, as it shall be printed."""
    recipe: str
    """The resolved recipe, YAML."""
    base: BaseModel
    runs: tuple[RunData, ...]
    tasks: tuple[TaskResults, ...] = ()
    funnel: tuple[SourceFunnel, ...] = ()
    score_label: str = "quality score"
    """What the histograms of scores count in."""
    versions: dict[str, str] = field(default_factory=dict)
    """Software, machine, store digest, commit: name -> value."""
    seed: int | None = None
    notes: tuple[str, ...] = ()
    """Further caveats, one sentence each."""

    def sources(self, role: str) -> tuple[str, ...]:
        """Names of the sources with ``role``, in the order of the funnel."""
        return tuple(source.name for source in self.funnel if source.role == role)

    def measured(self) -> tuple[str, ...]:
        """Sources with a held-out loss in any run: domain first, then general, then the others."""
        present = {name.split("/")[1] for run in self.runs for name in run.curves if is_heldout_loss(name)} | {
            name for run in self.runs for name in run.gaps
        }
        ordered = [*self.sources("domain"), *self.sources("general"), *self.sources("reference")]
        return tuple([name for name in ordered if name in present] + sorted(present - set(ordered)))

    def to_json(self) -> str:
        """Canonical JSON text."""
        return canonical_json({"format": FORMAT, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> ReportData:
        """The data that :meth:`to_json` wrote.

        Raises:
            CorruptError: the text is something else.
        """
        try:
            value = json.loads(text)
            if value.pop("format") != FORMAT:
                raise ValueError("another format version")
            data = _build(cls, value)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptError("report data", f"cannot be read ({error})", "write the report again") from None
        assert isinstance(data, cls)
        return data


def is_heldout_loss(metric: str) -> bool:
    """Whether ``metric`` is ``heldout/<source>/loss``."""
    parts = metric.split("/")
    return len(parts) == 3 and parts[0] == "heldout" and parts[2] == "loss"


def thin(curve: Curve, limit: int = 600) -> Curve:
    """At most about ``limit`` finite points of a curve: first, last, and each stretch's lowest and highest."""
    curve = tuple(point for point in curve if math.isfinite(point[1]))
    if len(curve) <= limit:
        return curve
    stretches = max(1, (limit - 2) // 2)
    inner = curve[1:-1]
    kept = [curve[0]]
    for i in range(stretches):
        stretch = inner[i * len(inner) // stretches : (i + 1) * len(inner) // stretches]
        extremes = {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
        kept.extend(sorted(extremes))
    return (*kept, curve[-1])


def _build(kind: Any, value: Any) -> Any:
    """``value`` (parsed JSON) as the annotated type ``kind``: dataclasses, tuples, dicts, optionals, scalars."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _build(hints[name], item) for name, item in value.items()})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_build(part, item) for part, item in zip(kinds, value, strict=True))
    if origin is dict:
        assert isinstance(value, Mapping)
        return {key: _build(arguments[1], item) for key, item in value.items()}
    if origin is types.UnionType:
        inner = next(part for part in arguments if part is not types.NoneType)
        return None if value is None else _build(inner, value)
    value = float(value) if kind is float and isinstance(value, int) else value
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is not {kind.__name__}")
    return value
