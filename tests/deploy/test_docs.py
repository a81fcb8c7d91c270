"""docs/deploy.md speaks of what there is."""

from __future__ import annotations

import re

from tests.deploy.definitions import DEPLOY, ROOT

PAGE = (ROOT / "docs/deploy.md").read_text()


def test_every_definition_is_described() -> None:
    for folder in DEPLOY.iterdir():
        assert f"(../deploy/{folder.name})" in PAGE, folder.name


def test_every_path_exists() -> None:
    for path in re.findall(r"deploy/[\w./-]+\w", PAGE):
        assert (ROOT / path).exists(), path


def test_every_secret_that_the_definitions_name_is_explained() -> None:
    for name in ("steady-ray-token", "steady-secrets"):
        used = [file for file in (DEPLOY / "kuberay").rglob("*.yaml") if name in file.read_text()]
        assert used
        assert name in PAGE


def test_no_definition_holds_a_secret() -> None:
    """No key, token or password in any form that a scanner would know."""
    forms = r"AKIA[0-9A-Z]{16}|gh[pousr]_\w{20,}|hf_\w{20,}|-----BEGIN|[0-9a-f]{32,}"
    for file in DEPLOY.rglob("*"):
        if file.is_file():
            found = re.search(forms, file.read_text())
            assert found is None or file.suffix == ".sh", f"{file}: {found}"
