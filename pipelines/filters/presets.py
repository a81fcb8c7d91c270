"""Named sets of filters, and how a recipe changes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from ground.errors import UserError
from pipelines.filters.config import FilterConfig

Preset = Literal["none", "basic", "web", "literature", "clinical"]

_PAGE: dict[str, Any] = {
    "repair_unicode": {"collapse_blank_lines": True},
    "repair_boilerplate": {},
    "boilerplate": {},
    "markup": {},
    "symbols": {},
    "language": {},
}
_PRESETS: dict[str, dict[str, Any]] = {
    # As it was read.
    "none": {
        "repair_unicode": None,
        "min_characters": 0,
        "max_characters": None,
        "max_replacement_share": 1.0,
        "min_letter_share": 0.0,
        "max_line_repetition": 1.0,
    },
    # Only what no one wants goes.
    "basic": {},
    # FineWeb's recipe: Gopher, C4 without its rule on line ends, FineWeb's own heuristics.
    "web": {
        **_PAGE,
        "language": {"min_probability": 0.65},
        "gopher_repetition": {},
        "gopher_quality": {},
        "c4": {"terminal_punctuation": False},
        "fineweb": {},
    },
    # Articles, textbooks, labels, abstracts: short texts, headings, tables, references and formulas stay.
    "literature": {
        **_PAGE,
        "markup": {"max_latex": None},
        "gopher_repetition": {
            "min_words": 200,
            "duplicate_lines": 0.5,
            "duplicate_paragraphs": 0.5,
            "duplicate_line_characters": 0.3,
            "duplicate_paragraph_characters": 0.3,
            "top_ngrams": {2: 0.3, 3: 0.25, 4: 0.25},
            "duplicate_ngrams": {5: 0.35, 6: 0.34, 7: 0.33, 8: 0.32, 9: 0.31, 10: 0.3},
        },
    },
}
_PRESETS["clinical"] = _PRESETS["literature"]


def resolve_filters(
    preset: Preset,
    curation: Mapping[str, Any] | None = None,
    source: Mapping[str, Any] | None = None,
    field: str = "curation.filters",
) -> FilterConfig:
    """The filters of a source: the preset, over it what ``curation`` sets, over that what the source itself sets.

    Args:
        preset: name of the set to begin with.
        curation: fields set explicitly for all sources (``model_dump(exclude_unset=True)``); a null turns a part off, a
            part that the preset has off begins with its own defaults.
        source: likewise for one source.
        field: dotted name for the error.

    Raises:
        UserError: a field or value that no filter has.
    """
    merged = _PRESETS[preset]
    for changes in (curation or {}, source or {}):
        merged = _merge(merged, changes)
    try:
        return FilterConfig.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join([field, *map(str, first["loc"])])
        raise UserError(name, f"{first['msg']}, got {first['input']!r}", "see docs/recipe.md") from None


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in changes.items():
        old = merged.get(name)
        nests = (
            isinstance(value, Mapping) and isinstance(old, Mapping) and name not in ("top_ngrams", "duplicate_ngrams")
        )
        merged[name] = _merge(old, value) if nests and isinstance(old, Mapping) else value
    return merged
