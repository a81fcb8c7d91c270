"""What curation did to each source, as plain frozen data, read from the ``funnel`` of a store's manifest.

Documents and bytes are counted; tokens are counted in the store and, before the last stage, estimated from bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_STAGES = ("read", "filters", "decontamination", "duplicates")
_STAGE_OF = {
    "contaminated": "decontamination",
    "duplicate": "duplicates",
    "near_duplicate": "duplicates",
    "near_heldout": "duplicates",
}
"""For stores that count by reason only; every other reason is a filter's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much of a corpus."""

    documents: int = 0
    bytes: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What is left after a stage."""

    name: str
    """``read``, ``filters``, ``decontamination`` or ``duplicates``."""
    left: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A dropped document."""

    id: str
    excerpt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicatePair:
    """A document that was dropped for being like another one."""

    kept: str
    dropped: str
    similarity: float | None
    """Jaccard similarity, 0..1, if it was measured."""
    reason: str
    kept_source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreBin:
    """Kept documents with a score in ``[low, low + width)``."""

    low: float
    documents: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Histogram of the quality scores of a source's training documents, in units of the score; lower is better."""

    width: float
    bins: tuple[ScoreBin, ...]
    """Those that hold something, ascending."""

    @property
    def tokens(self) -> int:
        """Tokens in all bins."""
        return sum(found.tokens for found in self.bins)

    def quantile(self, share: float) -> float:
        """The score below which ``share`` of the tokens lie, linear within a bin; 0 < share <= 1, bins not empty."""
        wanted, before = share * self.tokens, 0
        for found in self.bins:
            if found.tokens and before + found.tokens >= wanted:
                return found.low + self.width * (wanted - before) / found.tokens
            before += found.tokens
        return self.bins[-1].low + self.width


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFunnel:
    """What curation did to one source. Its stages are in order and end with what is kept or held out."""

    name: str
    role: str
    """``domain``, ``general`` or ``reference``."""
    read: Amount
    stages: tuple[Stage, ...]
    kept: Amount
    """For training; held-out documents come on top."""
    heldout: Amount = Amount()
    dropped: dict[str, Amount] = field(default_factory=dict)
    """By reason."""
    repaired: dict[str, int] = field(default_factory=dict)
    """Repair -> documents it changed."""
    redacted: dict[str, int] = field(default_factory=dict)
    """Kind of identifier -> redactions."""
    contaminated: dict[str, int] = field(default_factory=dict)
    """Evaluation task -> documents that repeat one of its items."""
    examples: dict[str, tuple[Example, ...]] = field(default_factory=dict)
    """Reason -> a few dropped documents."""
    scores: Scores | None = None
    pairs: tuple[DuplicatePair, ...] = ()
    """A sample."""

    @property
    def dropped_documents(self) -> int:
        """Documents dropped for any reason."""
        return sum(amount.documents for amount in self.dropped.values())

    def reasons(self) -> list[tuple[str, Amount]]:
        """Reasons with what they dropped, most documents first."""
        return sorted(self.dropped.items(), key=lambda item: (-item[1].documents, item[0]))

    def left_after(self, stage: str) -> Amount | None:
        """What is left after a stage; None when there is no such stage."""
        return next((found.left for found in self.stages if found.name == stage), None)

    def losses(self) -> dict[str, Amount]:
        """Stage -> what was dropped in it, tokens by estimate; of unreadable rows only the number is known."""
        found, before = {}, self.read
        for stage in self.stages:
            found[stage.name] = Amount(
                documents=max(0, before.documents - stage.left.documents),
                bytes=max(0, before.bytes - stage.left.bytes),
                tokens=max(0, before.tokens - stage.left.tokens),
            )
            before = stage.left
        return found

    @property
    def repaired_bytes(self) -> int:
        """Bytes that repairs and redaction took from the documents that stay."""
        left = self.stages[-1].left.bytes if self.stages else 0
        return max(0, left - self.kept.bytes - self.heldout.bytes)


def by_size(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Counts by name, largest first, equal ones by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def read_funnel(funnel: Mapping[str, Mapping[str, Any]]) -> tuple[SourceFunnel, ...]:
    """The funnel of a manifest, sources by role and name. What an older store does not tell is empty."""
    sources = [_read_source(name, value) for name, value in funnel.items()]
    return tuple(sorted(sources, key=lambda source: (source.role, source.name)))


def _read_source(name: str, value: Mapping[str, Any]) -> SourceFunnel:
    read, kept, heldout = (_amount(value.get(key, {})) for key in ("read", "kept", "heldout"))
    dropped = {reason: _amount(amount) for reason, amount in value.get("dropped", {}).items()}
    stages = tuple(Stage(name=stage["stage"], left=_amount(stage)) for stage in value.get("stages", ()))
    return SourceFunnel(
        name=name,
        role=value["role"],
        read=read,
        stages=stages or _stages(read, dropped, (kept, heldout)),
        kept=kept,
        heldout=heldout,
        dropped=dropped,
        repaired=dict(value.get("repaired", {})),
        redacted=dict(value.get("redacted", {})),
        contaminated=dict(value.get("contaminated", {})),
        examples={
            reason: tuple(Example(id=str(identity), excerpt=str(text)) for identity, text in found)
            for reason, found in value.get("examples", {}).items()
            if found
        },
        scores=_scores(value.get("scores", {})),
        pairs=tuple(
            DuplicatePair(
                kept=str(pair["kept"]),
                dropped=str(pair["dropped"]),
                similarity=None if pair.get("similarity") is None else float(pair["similarity"]),
                reason=str(pair["reason"]),
                kept_source=str(pair.get("kept_source", name)),
            )
            for pair in value.get("pairs", ())
        ),
    )


def _amount(value: Mapping[str, Any]) -> Amount:
    return Amount(**{key: int(value.get(key, 0)) for key in ("documents", "bytes", "tokens")})


def _scores(value: Mapping[str, Any]) -> Scores | None:
    if not value.get("bins"):
        return None
    width = float(value["width"])
    bins = sorted((int(index), *counts) for index, counts in value["bins"].items())
    return Scores(
        width=width,
        bins=tuple(
            ScoreBin(low=index * width, documents=documents, tokens=tokens) for index, documents, tokens in bins
        ),
    )


def _stages(read: Amount, dropped: Mapping[str, Amount], ends: tuple[Amount, Amount]) -> tuple[Stage, ...]:
    """The stages of a store that counts by reason only."""
    tokens, size = (sum(getattr(end, key) for end in ends) for key in ("tokens", "bytes"))
    documents, left, stages = read.documents, read.bytes, []
    for stage in _STAGES:
        for reason, amount in dropped.items():
            if _STAGE_OF.get(reason, "filters") == stage:
                documents, left = documents - amount.documents, left - amount.bytes
        estimate = tokens if stage == _STAGES[-1] else round(left * tokens / size) if size else 0
        stages.append(Stage(name=stage, left=Amount(documents=documents, bytes=left, tokens=estimate)))
    return tuple(stages)
