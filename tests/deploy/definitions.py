"""Where the cluster definitions lie, and how tests read them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
PINS = dict(line.strip().split("==", 1) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
"""Version by package, as constraints.txt has it."""

Document = dict[str, Any]


def read(name: str) -> Any:
    """One YAML file below deploy/."""
    return yaml.safe_load((DEPLOY / name).read_text())


def rendered(folder: Path) -> list[Document]:
    """What Kustomize makes of a folder; skips where there is no kubectl and no kustomize."""
    if kubectl := shutil.which("kubectl"):
        command = [kubectl, "kustomize", str(folder)]
    elif kustomize := shutil.which("kustomize"):
        command = [kustomize, "build", str(folder)]
    else:
        pytest.skip("neither kubectl nor kustomize is installed")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value that is no mapping and no list, with the way to it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, str(key)))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from leaves(inner, (*path, str(number)))
    else:
        yield path, value
