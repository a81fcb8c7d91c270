"""Names that configuration sections of several files use."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Role = Literal["domain", "general", "reference"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
