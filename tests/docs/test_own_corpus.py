"""The tutorial "I have a corpus of my own", as it is written: its recipe, its commands, in their order."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.docs.commands import ROOT, blocks, commands_of
from tests.docs.corpora import write_corpora
from tests.docs.running import steady

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]
pytest.importorskip("lm_eval", reason="lm-eval is not installed")

PAGE = ROOT / "docs" / "tutorials" / "own-corpus.md"


def test_the_tutorial_works_as_written(tmp_path: Path) -> None:
    write_corpora(tmp_path)
    (tmp_path / "models").symlink_to(ROOT / "models")
    text = PAGE.read_text()
    (recipe,) = blocks(text, "yaml")
    (tmp_path / "my.yaml").write_text(recipe)
    (row,) = blocks(text, "json")
    with open(tmp_path / "questions" / "mine.jsonl", "a") as questions:
        questions.write(json.dumps(json.loads(row) | {"id": "of the page"}) + "\n")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    printed: dict[str, str] = {}
    for command in commands_of(text, "own-corpus.md"):
        done = steady(command.arguments, tmp_path, environment)
        assert done.returncode == 0, (str(command), done.stdout[-1500:], done.stderr[-3000:])
        printed[" ".join(command.arguments)] = done.stdout
    assert len(printed) == 9
    assert "best" in printed["curate my.yaml --preview 12"] and "worst" in printed["curate my.yaml --preview 12"]
    assert "Curation funnel" in printed["curate my.yaml"]
    assert "times seen" in printed["plan my.yaml"]
    assert "stability gap" in printed["train my.yaml"]
    assert "95 % interval" in next(reversed([out for name, out in printed.items() if name.startswith("evaluate best")]))
    work = tmp_path / ".steady" / "my-corpus"
    assert (work / "report" / "report.html").is_file()
    assert list((work / "curation-log").glob("*/*.html"))
    results = json.loads((tmp_path / "results" / "base" / "results.json").read_text())
    assert results["tasks"]["mine"]["n"] == 11
    assert (tmp_path / "my-model" / "model.safetensors").is_file() and (tmp_path / "my-model" / "README.md").is_file()
