"""One line of `steady doctor`'s page, and the helpers that make one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from ground.errors import UserError

Level = Literal["ok", "note", "broken"]
"""``note``: it runs, but somebody should know. ``broken``: something would not run."""


@dataclass(frozen=True)
class Finding:
    """One line of the page."""

    what: str
    level: Level
    found: str
    mend: str = ""
    """Shown unless all is well."""


def attempt(what: str, action: Callable[[], str]) -> Finding:
    """``ok`` with what ``action`` returns, or ``broken`` with the UserError it raises."""
    try:
        return Finding(what, "ok", action())
    except UserError as error:
        return Finding(what, "broken", f"{error.field}: {error.problem}", error.mend)


def installed(package: str) -> str | None:
    """Version of a package; None when it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
