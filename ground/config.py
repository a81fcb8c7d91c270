"""The base of every recipe section: frozen, closed, documented by the docstring under each field."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A typed part of a recipe. Unknown fields are errors, values never change after validation."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
