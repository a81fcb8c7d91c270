"""What `steady plan` says about memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.recipes import run_steady, small_recipe

RECIPE = "recipes/llama-3-8b-medical.yaml"  # plans without a store


def rows(out: str) -> dict[int, list[str]]:
    """ZeRO stage -> cells of its row."""
    table = out.partition("Memory of each GPU")[2]
    cells = [line.split() for line in table.splitlines() if line.strip()[:1].isdigit()]
    return {int(line[0]): line[1:] for line in cells}


def test_every_stage_with_its_parts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ran = run_steady(monkeypatch, capsys, "plan", RECIPE, "training.gpu=H100")
    assert ran.code == 0
    found = rows(ran.out)
    assert list(found) == [0, 1, 2, 3]
    for cells in found.values():
        *parts, total = map(float, cells[:8])
        assert total == pytest.approx(sum(parts), abs=0.4)  # rounded
    assert [cells[8] for cells in found.values()] == ["no", "yes", "yes", "yes"]
    assert found[0][9] == "none"
    assert int(found[1][9]) <= int(found[3][9])
    assert "does not fit" not in ran.out


def test_a_stage_that_does_not_fit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ran = run_steady(monkeypatch, capsys, "plan", RECIPE, "training.gpu=A100-40GB", "training.zero_stage=1")
    assert ran.code == 0
    assert "ZeRO 1 does not fit A100-40GB" in ran.out
    assert "set training.zero_stage=2" in ran.out


def test_a_gpu_that_no_one_knows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ran = run_steady(monkeypatch, capsys, "plan", RECIPE, "training.gpu=H1000")
    assert ran.code == 2
    assert "training.gpu: 'H1000' is not in the table" in ran.err
    assert "Plan for" not in ran.out


def test_runs_of_the_same_need_share_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = run_steady(monkeypatch, capsys, "plan", str(small_recipe(tmp_path)))
    assert "Memory" not in ran.out  # on CPU
    ran = run_steady(monkeypatch, capsys, "plan", str(small_recipe(tmp_path)), "training.gpu=T4")
    assert ran.out.count("Memory of each GPU") == 1
