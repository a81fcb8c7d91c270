"""The recipe section ``curation.deidentification``: which identifiers become tags."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ground.config import Section

Kind = Literal[
    "url", "email", "fax", "phone", "ssn", "mrn", "account", "health_plan", "license", "vehicle", "device", "date", "ip", "zip",
    "age", "name",
]  # fmt: skip

SAFE_HARBOR: tuple[Kind, ...] = (
    *("url", "email", "fax", "phone", "ssn", "mrn", "account", "health_plan", "license"),
    *("vehicle", "device", "date", "ip", "zip", "age"),
)
"""Every kind that has a shape of its own."""


class DeidentificationConfig(Section):
    """Identifiers that become tags, by patterns: an aid, not a guarantee."""

    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = SAFE_HARBOR
    """Kinds to look for: all that patterns find. ``name`` (what follows Dr., Mr., Mrs. or Ms.) is off: it misses most names
    and takes authors and eponyms with it. ZIP codes go whole: the three digits that the rule lets stand depend on a census."""
    keep_year: bool = False
    """Write ``[DATE 1992]`` instead of ``[DATE]`` where the year has four digits. The rule permits the year, except where it
    shows an age over 89, which no pattern can tell."""
