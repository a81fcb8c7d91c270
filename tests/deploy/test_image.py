"""The container images: pinned, small in what they see, without root and without secrets."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.deploy.definitions import DEPLOY, PINS, ROOT

STEADY = DEPLOY / "image/Dockerfile"
MLFLOW = DEPLOY / "compose/mlflow/Dockerfile"
Instruction = tuple[str, str]


def instructions(file: Path) -> list[Instruction]:
    """Name and arguments of every instruction, continued lines joined."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


def copied(file: Path) -> list[str]:
    """What COPY takes from the folder of the build."""
    found: list[str] = []
    for name, arguments in instructions(file):
        if name == "COPY":
            found += [word for word in arguments.split() if not word.startswith("--")][:-1]
    return found


@pytest.mark.parametrize("file", [STEADY, MLFLOW], ids=["steady", "mlflow"])
def test_it_is_pinned_and_runs_as_nobody_special(file: Path) -> None:
    steps = instructions(file)
    base = dict(steps)["FROM"]
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-bookworm", base), "a moving tag"
    assert [value for name, value in steps if name == "USER"] == ["1000:1000"]
    users = [number for number, (name, _) in enumerate(steps) if name == "USER"]
    assert users[0] < max(number for number, (name, _) in enumerate(steps) if name == "CMD")
    assert not any(name == "ADD" for name, _ in steps), "COPY cannot fetch"
    text = file.read_text()
    assert not re.search(r"sudo|chmod 777|--privileged|curl .*\| *(ba)?sh", text)
    for name, value in steps:
        if name in ("ENV", "ARG"):
            assert not re.search(r"(TOKEN|PASSWORD|SECRET|KEY)\w*=", value), value
        if "apt-get install" in value:
            assert "--no-install-recommends" in value
            assert "rm -rf /var/lib/apt/lists/*" in value


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, str(STEADY), str(MLFLOW)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_it_checks_itself_with_doctor() -> None:
    assert dict(instructions(STEADY))["CMD"] == '["steady", "doctor"]'


def test_every_package_of_the_project_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rooms = {name.split(".")[0] for name in project["tool"]["setuptools"]["packages"]}
    assert rooms | {"recipes"} <= {name.rstrip("/") for name in copied(STEADY)}


@pytest.mark.parametrize("file", [STEADY, MLFLOW], ids=["steady", "mlflow"])
def test_what_is_copied_exists(file: Path) -> None:
    folder = ROOT if file == STEADY else file.parent
    assert copied(file)
    for name in copied(file):
        assert (folder / name).exists(), name


def test_the_build_sees_only_what_it_copies() -> None:
    lines = (DEPLOY / "image/Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert allowed == {name.rstrip("/") for name in copied(STEADY)}
    last = [rule for rule in rules if not rule.startswith("!")][1:]
    assert any(fnmatch("deploy/.env", rule.replace("**/", "*/")) for rule in last)


def test_what_it_installs_is_what_the_project_asks_for() -> None:
    done = subprocess.run(
        [sys.executable, str(DEPLOY / "image/dependencies.py"), "huggingface", "lm-eval"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert done.stdout.split("\n")[:-1] == [*project["dependencies"], *extras["huggingface"], *extras["lm-eval"]]
    run = next(value for name, value in instructions(STEADY) if "dependencies.py" in value and name == "RUN")
    assert "--constraint constraints.txt" in run


def test_its_further_packages_are_pinned() -> None:
    for file in (DEPLOY / "image/requirements.txt", DEPLOY / "compose/mlflow/requirements.txt"):
        for line in file.read_text().splitlines():
            if line.startswith("#"):
                continue
            name, version = line.split("==")
            pinned = PINS.get(re.sub(r"\[.*\]", "", name))
            assert pinned in (None, version), f"{file.name}: constraints.txt has {pinned}"
