"""The documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.build import TARGET, reference

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_recipe_reference_is_up_to_date() -> None:
    assert TARGET.read_text() == reference(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_recipes_named_in_the_documents_exist(page: Path) -> None:
    for name in re.findall(r"recipes/[a-z0-9-]+\.yaml", page.read_text()):
        assert (ROOT / name).is_file(), f"{page.name}: {name}"
