"""The commands that the documents show, read from their code blocks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
_STEADY = re.compile(r"^(?:\$ )?(?:\.venv/bin/)?(?:steady|python3? -m cluster)(?= |$)")
_RAY_JOB = re.compile(r"^(?:\$ )?ray job submit .*? -- (?:python3? -m cluster|steady) ")


@dataclass(frozen=True)
class Shown:
    """One `steady` command of a page."""

    page: str
    line: int
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: steady {' '.join(self.arguments)}"


def shown() -> list[Shown]:
    """Every `steady` command in the code blocks of README.md and docs/, and in the comments that head the recipes."""
    found = [command for page in PAGES for command in commands_of(page.read_text(), str(page.relative_to(ROOT)))]
    for recipe in RECIPES:
        text = "\n".join(line.removeprefix("#").removeprefix("   ") for line in recipe.read_text().splitlines())
        found += [
            Shown(f"recipes/{recipe.name}", line, arguments) for line, code in enumerate(text.splitlines(), 1)
            for arguments in _arguments(code)
        ]  # fmt: skip
    return found


def commands_of(text: str, page: str) -> Iterator[Shown]:
    """The commands of one page."""
    for line, code in code_lines(text):
        for arguments in _arguments(code):
            yield Shown(page, line, arguments)


def code_lines(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines of fenced and indented code, continuation lines joined."""
    fenced, waiting = False, ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            whole = waiting + line.strip()
            waiting = whole[:-1] if whole.endswith("\\") else ""
            if not waiting:
                yield number, whole


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def _arguments(code: str) -> Iterator[tuple[str, ...]]:
    """The `steady` commands of one line: comments and prompts removed, joined ones apart."""
    for part in re.split(r" && ", _without_comment(code)):
        stripped = _RAY_JOB.sub("steady ", part.strip())
        if match := _STEADY.match(stripped):
            yield tuple(shlex.split(stripped[match.end() :]))


def _without_comment(code: str) -> str:
    return re.split(r"\s#\s", code, maxsplit=1)[0]
