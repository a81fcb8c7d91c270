"""``python -m pipelines.packaged FOLDER``: write the packaged corpora and conversations that are not there yet."""

from __future__ import annotations

import sys
from pathlib import Path

from ground.errors import UserError
from pipelines.packaged import write_packaged_corpora, write_packaged_instructions

_FOLDER = ".steady/packaged"


def main(arguments: list[str]) -> int:
    """Write into the named folder (``.steady/packaged`` if none is) and print the files; 2 if a package is missing."""
    folder = Path(arguments[0] if arguments else _FOLDER)
    try:
        files = write_packaged_corpora(folder) | write_packaged_instructions(folder)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.writelines(f"{path}\n" for path in files.values())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
