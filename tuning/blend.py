"""How one number, the domain share, becomes shares of sources, and how the sources' losses become two metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ground.errors import UserError
from pipelines.config import MixtureConfig
from pipelines.plan import SourceSize
from tuning.config import ObjectiveConfig
from tuning.space import Point

DOMAIN, GENERAL = "domain_loss", "general_loss"
"""Metrics made from the held-out losses: their means over the sources of a role, weighted as in the mixture."""


@dataclass(frozen=True)
class Blend:
    """The proportions within each role; both sum to 1."""

    domain: Mapping[str, float]
    general: Mapping[str, float]

    def shares(self, share: float) -> dict[str, float]:
        """Shares of all sources at a domain share; sources without any are left out."""
        parts = {name: share * part for name, part in self.domain.items()}
        parts |= {name: (1 - share) * part for name, part in self.general.items()}
        return {name: part for name, part in parts.items() if part > 1e-9}

    def metrics(self, measured: Mapping[str, float], objective: ObjectiveConfig) -> dict[str, float]:
        """The objective's metrics of one measurement; empty when it does not hold both."""
        values = dict(measured)
        for name, parts in ((DOMAIN, self.domain), (GENERAL, self.general)):
            losses = {source: measured.get(f"heldout/{source}/loss") for source in parts}
            known = {source: loss for source, loss in losses.items() if loss is not None}
            if known:
                values[name] = sum(parts[s] * loss for s, loss in known.items()) / sum(parts[s] for s in known)
        wanted = (objective.domain_metric, objective.general_metric)
        return {name: values[name] for name in wanted} if all(name in values for name in wanted) else {}


def blend_of(sizes: Mapping[str, SourceSize], shares: Mapping[str, float] | None) -> Blend:
    """The proportions of a recipe: those of ``mixture.shares``, else by training tokens.

    Raises:
        UserError: there is no domain or no general source to mix.
    """
    parts: dict[str, dict[str, float]] = {"domain": {}, "general": {}}
    for name, size in sizes.items():
        if size.role in parts and (shares is None or name in shares):
            parts[size.role][name] = float(size.tokens) if shares is None else shares[name]
    for role, found in parts.items():
        if not found or not sum(found.values()):
            raise UserError(
                "tuning", f"searches the share of the domain and the recipe mixes no {role} source", "add one"
            )
    normal = {
        role: {name: part / sum(found.values()) for name, part in sorted(found.items())}
        for role, found in parts.items()
    }
    return Blend(normal["domain"], normal["general"])


def mixture_of(point: Point, blend: Blend, mixture: MixtureConfig) -> MixtureConfig:
    """The mixture of a recipe at a point of the search."""
    changes = {"subset_tokens": point.subset_tokens, "epochs": point.epochs, "shares": blend.shares(point.share)}
    return mixture.model_copy(update=changes)


def check_metric(name: str, field: str, sources: Mapping[str, SourceSize], measured: tuple[str, ...] | None) -> None:
    """Refuse a metric that no trial logs.

    Args:
        measured: ``evaluation.sources``.

    Raises:
        UserError: with the names there are.
    """
    known = [DOMAIN, GENERAL, "train/loss"]
    for source in measured or sorted(sources):
        known += [f"heldout/{source}/loss", f"heldout/{source}/bits_per_byte"]
    if name not in known:
        raise UserError(field, f"{name!r} is a metric that no trial logs", f"use one of {', '.join(known)}")
