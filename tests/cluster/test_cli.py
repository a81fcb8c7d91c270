"""The command's own surface: help, dry run, choosing runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.helpers.recipes import run_steady, small_recipe

COMMANDS = ("curate", "mix", "plan", "train", "evaluate", "report", "ui", "doctor", "demo")


def test_help_names_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ran = run_steady(monkeypatch, capsys, "--help")
    assert ran.code == 0
    for command in COMMANDS:
        assert command in ran.out


@pytest.mark.parametrize("command", ["curate", "plan", "train"])
def test_help_gives_an_example(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = run_steady(monkeypatch, capsys, command, "--help")
    assert f"Example: steady {command} recipes/" in " ".join(ran.out.split())


def test_a_dry_run_shows_the_resolved_recipe_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small_recipe(tmp_path)
    ran = run_steady(monkeypatch, capsys, "train", str(path), "--dry-run", "training.weight_decay=0.2")
    assert ran.code == 0
    resolved = yaml.safe_load(ran.out.partition("Plan for")[0])
    assert resolved["training"]["weight_decay"] == 0.2
    assert resolved["training"]["beta2"] == 0.95  # a default
    assert "optimiser steps" in ran.out
    assert sorted(entry.name for entry in (tmp_path / "work").iterdir()) == ["store"]


def test_an_unknown_run_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small_recipe(tmp_path, runs={"a": {}, "b": {}})
    ran = run_steady(monkeypatch, capsys, "train", str(path), "--only", "c")
    assert ran.code == 2
    assert "--only: 'c' is no run of this recipe; use a, b" in ran.err


def test_doctor_says_what_a_recipe_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small_recipe(tmp_path)
    assert run_steady(monkeypatch, capsys, "doctor", str(path)).code == 0
    (tmp_path / "corpora" / "med.jsonl").unlink()
    ran = run_steady(monkeypatch, capsys, "doctor", str(path))
    assert ran.code == 1
    assert "sources.med.paths" in ran.out
    ran = run_steady(monkeypatch, capsys, "doctor", str(path), "training.zero_stage=9")
    assert ran.code == 1
    assert "training.zero_stage" in ran.out
