"""Every command in the documents is one that the product understands; the cheap ones run here.

Each `steady` command in a code block of README.md and docs/ and in the head of a recipe is parsed by the real command line:
it and its options exist, values have the right type, named recipes exist, overrides name real fields. Commands that take
seconds run. The others (RUN_BY) run, with recipes of their own, in the test that is named there.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from cluster.cli import app
from cluster.recipe import Recipe, load_recipe
from ground.errors import UserError
from tests.docs.commands import PAGES, ROOT, Shown, blocks, commands_of, shown
from tests.helpers.recipes import run_steady

COMMANDS = shown()
PLANNED = ("recipes/llama-3-8b-medical.yaml", "recipes/llama-3-8b-medical-instruct.yaml")
"""Recipes that state the sizes of their sources, so that they can be planned without a store."""
RUN_BY = {
    "curate": "tests/docs/test_own_corpus.py",
    "plan": "tests/docs/test_own_corpus.py",
    "train": "tests/docs/test_own_corpus.py",
    "report": "tests/docs/test_own_corpus.py",
    "evaluate": "tests/docs/test_own_corpus.py",
    "export": "tests/docs/test_own_corpus.py",
    "doctor": "tests/docs/test_own_corpus.py",
    "mix": "tests/cluster/test_mix.py",
    "sync": "tests/tracking/test_outage.py",
    "ui": "tests/cluster/test_ui*.py",
    "tune": "tests/cluster/test_tune*.py",
    "submit": "tests/cluster/test_submit*.py",
    "jobs": "tests/cluster/test_submit*.py",
    "demo": "Makefile",  # ten minutes: `make demo`, by hand
}


@lru_cache
def command_line() -> Any:
    """The command with all its parts, as click sees it."""
    return typer.main.get_command(app)


def parsed(arguments: tuple[str, ...]) -> dict[str, Any]:
    """Values of the parameters.

    Raises:
        click.ClickException: the command line refuses them.
    """
    command, rest = command_line(), list(arguments)
    while hasattr(command, "commands"):
        assert rest and rest[0] in command.commands, f"`steady {' '.join(arguments[:2])}` does not exist"
        command = command.commands[rest.pop(0)]
    return dict(command.make_context(command.name, rest).params)


def recipes_for(page: str, path: str, folder: Path) -> list[Path]:
    """The recipes a page may mean: the file in the repository; for one of the reader's own, what the page shows of it, else a
    small and a large one."""
    if (ROOT / path).is_file():
        return [ROOT / path]
    assert path == "my.yaml" or path.startswith(".steady/"), f"there is no recipe {path}"
    own = [block for block in blocks((ROOT / page).read_text(), "yaml") if "\nsources:" in block]
    if not own:
        return [ROOT / "recipes" / "demo.yaml", ROOT / PLANNED[0]]
    (folder / "my.yaml").write_text(own[0])
    return [folder / "my.yaml"]


def check_recipe(candidates: list[Path], overrides: list[str]) -> None:
    """One of them takes the overrides.

    Raises:
        UserError: none does; the last one's reason.
    """
    for index, path in enumerate(candidates):
        try:
            load_recipe(path, overrides)
            return
        except UserError:
            if index == len(candidates) - 1:
                raise


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_it_is_a_command(command: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    arguments = command.arguments
    while True:
        values = parsed(arguments)
        if values.get("recipe"):
            check_recipe(recipes_for(command.page, values["recipe"], tmp_path), values["overrides"] or [])
        if arguments[0] != "submit":
            break
        arguments = tuple(values["command"])  # what the job will run


def test_the_documents_are_read() -> None:
    assert len(COMMANDS) > 60
    assert {command.arguments[0] for command in COMMANDS} >= {"curate", "plan", "train", "tune", "submit", "jobs", "ui"}
    fenced = "```bash\n$ steady a \\\n  b && ray job submit --q 1 -- python -m cluster c d\n```\n"
    text = "Words.\n\n    steady plan x.yaml  # why\n\n" + fenced
    found = [(command.line, command.arguments) for command in commands_of(text, "x")]
    assert found == [(3, ("plan", "x.yaml")), (7, ("a", "b")), (7, ("c", "d"))]


@pytest.mark.parametrize("wrong", [("plan", "x.yaml", "--nope"), ("train",), ("mix", "x.yaml", "--steps", "high")])
def test_a_wrong_command_is_found(wrong: tuple[str, ...]) -> None:
    with pytest.raises(Exception, match=r"No such option|Missing parameter|valid integer"):
        parsed(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_named_in_the_text_exist(page: Path) -> None:
    known = command_line().commands
    for name in re.findall(r"`steady ([a-z]+)", page.read_text()):
        assert name in known, name


def _is_cheap(command: Shown) -> bool:
    name, *rest = command.arguments
    return rest != [] and rest[0] in PLANNED and (name == "plan" or "--dry-run" in rest)


@pytest.mark.parametrize("command", [command for command in COMMANDS if _is_cheap(command)], ids=str)
def test_cheap_ones_run(
    command: Shown, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    ran = run_steady(monkeypatch, capsys, *command.arguments)
    assert ran.code == 0, ran.err
    assert "optimiser steps" in ran.out
    assert [entry.name for entry in tmp_path.iterdir()] == ["recipes"], "it wrote something"


@pytest.mark.parametrize(
    "overrides",
    [
        list(command.arguments[2:])
        for command in COMMANDS
        if command.page.endswith("one-gpu-box.md") and command.arguments[0] == "plan"
    ],
    ids=lambda overrides: " ".join(overrides) or "plain",
)
def test_the_plans_of_the_gpu_tutorial_run(
    overrides: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = "docs/tutorials/one-gpu-box.md"
    (recipe,) = recipes_for(page, "my.yaml", tmp_path)
    ran = run_steady(monkeypatch, capsys, "plan", str(recipe), *overrides)
    assert ran.code == 0, ran.err
    assert "Memory of each GPU" in ran.out and "yes" in ran.out


def test_help_of_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def names(command: Any, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        inner = getattr(command, "commands", {})
        return [before] + [path for name, child in inner.items() for path in names(child, (*before, name))]

    for path in names(command_line()):
        ran = run_steady(monkeypatch, capsys, *path, "--help")
        assert ran.code == 0, path
        assert "Usage: steady" in ran.out


def test_doctor_looks_at_this_machine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ran = run_steady(monkeypatch, capsys, "doctor")
    assert ran.code in (0, 1)
    assert "accelerator" in ran.out and "Traceback" not in ran.err


@pytest.mark.parametrize("name", sorted({command.arguments[0] for command in COMMANDS}))
def test_the_others_run_in_the_test_that_is_named(name: str) -> None:
    files = sorted(ROOT.glob(RUN_BY[name]))
    assert files, RUN_BY[name]
    run = {command.arguments[0] for command in COMMANDS if command.page.endswith("own-corpus.md")}
    assert (name in run and "own" in RUN_BY[name]) or any(name in file.read_text() for file in files)


def _merged(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: _merged(below.get(key), value) for key, value in above.items()}
    return above


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_yaml_in_the_documents_is_a_recipe_or_a_part_of_one(page: Path) -> None:
    base = yaml.safe_load((ROOT / PLANNED[0]).read_text())
    for block in blocks(page.read_text(), "yaml"):
        part = yaml.safe_load(block)
        if isinstance(part, dict) and part.keys() <= Recipe.model_fields.keys():
            Recipe.model_validate(part if "sources" in part else _merged(base, part))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor and file.suffix == ".md":
            heads = re.findall(r"^#+ (.*)$", file.read_text(), flags=re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in slugs, f"{page.name}: {target}#{anchor}"
