"""Text around software: the documentation and the sources that Python and its scientific packages ship."""

from __future__ import annotations

import ast
import inspect
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3

from pipelines.packaged.locate import package_folder

_PACKAGES = ("numpy", "scipy", "sklearn", "torch", "pandas")
_SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "testing", "idle_test", "site-packages", "__pycache__", "_vendor", "externals"}
)
_SHORT_DOCSTRING = 400
_CODE_BYTES = range(500, 150_000)
# Character tables and the help texts of `documentation`: no one's idea of code.
_SKIPPED_SOURCES = ("encodings/", "pydoc_data/", "lib2to3/pgen2/", "config-")


def documentation() -> Iterator[tuple[str, str]]:
    """Python's help topics and the docstrings of scientific packages beyond 400 characters, each text once."""
    seen: set[bytes] = set()
    for key, text in _all_documentation():
        digest = blake3(text.encode()).digest(16)
        if digest not in seen:
            seen.add(digest)
            yield key, text


def standard_library() -> Iterator[tuple[str, str]]:
    """The standard library's modules without their tests, one document a file of 0.5 to 150 kB."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in _sources(root):
        name = path.relative_to(root).as_posix()
        data = path.read_bytes()
        if len(data) in _CODE_BYTES and not name.startswith(_SKIPPED_SOURCES):
            yield f"python/{name}", data.decode("utf-8", "replace").replace("\r\n", "\n")


def _all_documentation() -> Iterator[tuple[str, str]]:
    from pydoc_data.topics import topics  # half a megabyte that nothing else needs

    for name, text in sorted(topics.items()):
        yield f"python/topics/{name}", text.strip()
    for package in _PACKAGES:
        folder = package_folder(package)
        for path in _sources(folder):
            module = f"{package}/{path.relative_to(folder).as_posix()}"
            for name, text in _docstrings(path):
                yield f"{module}:{name}", text


def _sources(root: Path) -> list[Path]:
    return sorted(
        path
        for path in root.rglob("*.py")
        if _SKIPPED_FOLDERS.isdisjoint(path.relative_to(root).parts) and path.is_file()
    )


def _docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Long docstrings of one file in order of appearance, with the dotted name inside the module."""
    source = path.read_bytes()
    if len(source) < _SHORT_DOCSTRING:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's invalid escapes
            tree = ast.parse(source)
    except (SyntaxError, ValueError):  # a template, or Python of another version
        return
    pending: list[tuple[str, ast.AST]] = [("", tree)]
    while pending:
        name, node = pending.pop()
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node, clean=False)
            if text is not None and len(text := inspect.cleandoc(text).strip()) > _SHORT_DOCSTRING:
                yield name or "module", text
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                children = [child for child in node.body if hasattr(child, "name")]
                pending.extend((f"{name}.{child.name}".lstrip("."), child) for child in reversed(children))
