"""What the report of a search shows, as plain frozen data with a JSON round trip, so that it can be drawn again any time."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Literal

from pydantic import TypeAdapter

from ground.errors import CorruptError
from ground.files import canonical_json
from tracking.search_parts import (
    BestData,
    CriticalShare,
    Curve,
    Finalist,
    FitData,
    FrontPoint,
    JobData,
    MapData,
    NextData,
    Pick,
    PredictionData,
    ShareCurve,
    TrialData,
)

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchData:
    """All of a search's report."""

    title: str
    created: str
    unit: str
    kind: Literal["tolerance", "pareto"]
    sampler: str
    select: Literal["quality", "random"]
    """What the subset is made of: the best domain text, or a random part."""
    seed: int
    domain_metric: str
    general_metric: str
    base_domain: float
    base_general: float
    epsilon: float
    """Allowed rise of the general metric; has no meaning for ``pareto``, nor has the next."""
    penalty: float
    """Cost of each unit above the tolerance, in units of the domain metric."""
    budget: float
    run_tokens: int
    step_tokens: int
    sequence_length: int
    ranges: dict[str, tuple[float, float]]
    """Knob -> its range; ``run_tokens`` when cheaper runs are allowed."""
    rungs: tuple[float, ...]
    settled: float
    reserved: float
    seconds: float
    device_seconds: float
    reason: str
    """Why it ended; empty while it goes on."""
    earlier: int = 0
    """Trials of other searches that the laws know besides its own."""
    best: BestData | None = None
    worst: int | None = None
    """The finished trial with the highest expected objective; None when that is the best."""
    front: tuple[FrontPoint, ...] = ()
    trials: tuple[TrialData, ...] = ()
    jobs: tuple[JobData, ...] = ()
    picks: tuple[Pick, ...] = ()
    maps: tuple[MapData, ...] = ()
    share_curves: tuple[ShareCurve, ...] = ()
    critical: CriticalShare | None = None
    curves: dict[int, dict[str, Curve]] = field(default_factory=dict)
    """Best and worst trial -> metric -> (tokens, value), from the base on."""
    predictions: tuple[PredictionData, ...] = ()
    fits: tuple[FitData, ...] = ()
    next: NextData | None = None
    finalists: tuple[Finalist, ...] = ()
    rank_correlation: float | None = None
    """Spearman's, of the objective at both runs."""
    recipe: str = ""
    """The text of ``best.yaml`` with secrets replaced."""

    @property
    def limit(self) -> float:
        """Highest general metric within the tolerance."""
        return self.base_general + self.epsilon

    @property
    def finished(self) -> tuple[TrialData, ...]:
        """Trials that reached the end of their runs."""
        return tuple(trial for trial in self.trials if trial.state == "finished")

    def to_json(self) -> str:
        """Canonical JSON text."""
        return canonical_json({"format": FORMAT, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> SearchData:
        """The data that :meth:`to_json` wrote.

        Raises:
            CorruptError: the text is something else.
        """
        try:
            value = json.loads(text)
            if value.pop("format") != FORMAT:
                raise ValueError("another format version")
            return TypeAdapter(SearchData).validate_json(json.dumps(value), strict=True)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CorruptError("search data", f"cannot be read ({reason})", "write the report again") from None
