"""The house rules of docs and design, checked in the source: floors, Ray at the edges, closed sections, short files."""

from __future__ import annotations

import ast
import importlib
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import pytest

from ground.config import Section

ROOT = Path(__file__).parent.parent
FLOORS = ["ground", "tracking", "pipelines", "training", "tuning", "cluster"]
RAY = {
    "pipelines/ray_executor.py",
    "pipelines/dataset.py",
    "training/launch.py",
    "training/launch_evaluation.py",
    "training/launch_mailbox.py",
    "training/launch_network.py",
    "training/launch_worker.py",
    "tuning/search.py",
    "cluster/session.py",
    "cluster/submit.py",
}
FILES = sorted(path for room in FLOORS for path in (ROOT / room).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that the source imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the room"
            yield node.module or ""


def module_of(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@pytest.mark.parametrize("name", NAMES)
def test_a_room_imports_only_from_lower_floors(name: str) -> None:
    floor = FLOORS.index(Path(name).parts[0])
    for module in imports(ast.parse((ROOT / name).read_text())):
        room = module.split(".")[0]
        if room in FLOORS:
            assert FLOORS.index(room) <= floor, f"{name} imports {module}"
        assert room not in ("tests", "benchmarks"), f"{name} imports {module}"


@pytest.mark.parametrize("name", [name for name in NAMES if name not in RAY])
def test_ray_is_imported_only_at_the_edges(name: str) -> None:
    roots = {module.split(".")[0] for module in imports(ast.parse((ROOT / name).read_text()))}
    assert "ray" not in roots, name


def test_everything_else_works_without_ray() -> None:
    modules = [module_of(name) for name in NAMES if name not in RAY and not name.endswith("__main__.py")]
    code = (
        "import importlib, sys\n"
        "class NoRay:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'ray' or name.startswith('ray.'):\n"
        "            raise AssertionError(f'{current} imports {name}')\n"
        "sys.meta_path.insert(0, NoRay())\n"
        f"for current in {modules!r}:\n"
        "    importlib.import_module(current)\n"
        "    assert 'ray' not in sys.modules, current\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def sections() -> list[type[Section]]:
    """Every section there is, of the recipe, the job, the store and the checkpoint."""
    for name in NAMES:
        if name not in RAY and "Section" in (ROOT / name).read_text():
            importlib.import_module(module_of(name))

    def below(kind: type[Section]) -> Iterator[type[Section]]:
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    return sorted((s for s in below(Section) if s.__module__.split(".")[0] in FLOORS), key=lambda s: s.__qualname__)


def test_every_section_is_frozen_and_closed() -> None:
    found = sections()
    assert {"Recipe", "MixtureConfig", "TrainingConfig", "TrackingConfig", "Job", "Manifest"} <= {
        s.__name__ for s in found
    }
    for section in found:
        assert section.model_config.get("frozen") is True, section
        assert section.model_config.get("extra") == "forbid", section


def parts(annotation: Any) -> Iterator[type[Section]]:
    """Sections inside an annotation such as ``dict[str, SourceConfig] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    elif get_origin(annotation) is not None or isinstance(annotation, UnionType):
        for argument in get_args(annotation):
            yield from parts(argument)


def test_every_field_of_the_recipe_is_documented() -> None:
    from cluster.recipe import Recipe

    waiting: list[type[Section]] = [Recipe]
    seen: set[type[Section]] = set()
    while waiting:
        section = waiting.pop()
        if section in seen:
            continue
        seen.add(section)
        assert section.__doc__, section
        for name, field in section.model_fields.items():
            assert (field.description or "").strip(), f"{section.__name__}.{name} has no docstring"
            waiting.extend(parts(field.annotation))
    assert len(seen) >= 12, seen


def test_public_names_have_docstrings() -> None:
    missing = []
    for path, name in zip(FILES, NAMES, strict=True):
        tree = ast.parse(path.read_text())
        if path.name not in ("__main__.py",) and ast.get_docstring(tree) is None:
            missing.append(name)
        for node in tree.body:
            if (
                isinstance(node, ast.ClassDef | ast.FunctionDef)
                and not node.name.startswith("_")
                and ast.get_docstring(node) is None
            ):
                missing.append(f"{name}:{node.name}")
    assert not missing


def test_files_are_short() -> None:
    lines = [len(path.read_text().splitlines()) for path in FILES]
    assert statistics.median(lines) < 200
    assert statistics.quantiles(lines, n=10)[-1] <= 450


def test_errors_are_never_swallowed() -> None:
    """No bare ``except``."""
    for path, name in zip(FILES, NAMES, strict=True):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{name}:{node.lineno}"
