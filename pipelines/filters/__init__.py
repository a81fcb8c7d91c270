"""Filters and repairs: which documents may stay and what is mended in them, each in a file of its own.

They read the text only and keep no state, so that a document's fate is the same in any batch, on any worker.
"""

from __future__ import annotations

from pipelines.filters.base import Filter, Repair, Step
from pipelines.filters.batch import FilterBatch
from pipelines.filters.config import FilterConfig
from pipelines.filters.pipeline import FilterPipeline, build_steps
from pipelines.filters.presets import Preset, resolve_filters

__all__ = [
    "Filter",
    "FilterBatch",
    "FilterConfig",
    "FilterPipeline",
    "Preset",
    "Repair",
    "Step",
    "build_steps",
    "resolve_filters",
]
