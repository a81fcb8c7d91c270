"""Print what pyproject.toml asks for, one requirement a line: ``dependencies.py [EXTRA]...``.

An image installs these before it copies the code, so that a change of the code does not install everything again.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def dependencies(project: Path, extras: list[str]) -> list[str]:
    """The requirements of the project file, with those of the extras.

    Raises:
        KeyError: there is no such extra.
    """
    table = tomllib.loads(project.read_text())["project"]
    found = list(table["dependencies"])
    for extra in extras:
        found += table["optional-dependencies"][extra]
    return found


if __name__ == "__main__":
    sys.stdout.write("\n".join(dependencies(Path("pyproject.toml"), sys.argv[1:])) + "\n")
