"""`steady evaluate`: results on disk, comparison, mistakes in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cluster.evaluate import find_model
from ground.errors import UserError
from tests.helpers.recipes import run_steady

pytest.importorskip("lm_eval", reason="lm-eval is not installed")

MODEL = Path(__file__).parents[2] / "models" / "tiny-base"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tasks of six items; the working folder is empty."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    folder.mkdir()
    for task in ("piqa", "boolq"):
        rows = [
            {
                "id": str(i),
                "question": f"what is number {i}",
                "options": ["yes", "no"],
                "answer": i % 2,
                "context": "Text.",
            }
            for i in range(6)
        ]
        (folder / f"{task}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.slow
def test_results_items_and_the_difference_are_written_and_shown(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("evaluate", str(MODEL), "--tasks", "piqa,boolq", "--data", str(data), "--device", "cpu")
    first = run_steady(monkeypatch, capsys, *common, "--limit", "5", "--out", "base")
    assert first.code == 0, first.err
    assert "piqa" in first.out
    record = json.loads(Path("base/results.json").read_text())
    assert record["tasks"]["piqa"]["n"] == 5
    assert len(Path("base/items.jsonl").read_text().splitlines()) == 10
    ran = run_steady(monkeypatch, capsys, *common, "--limit", "5", "--against", "base", "--out", "again")
    assert ran.code == 0, ran.err
    differences = json.loads(Path("again/comparison.json").read_text())["differences"]
    assert [(one["name"], one["difference"], one["p"]) for one in differences] == [
        ("piqa", 0.0, 1.0),
        ("boolq", 0.0, 1.0),
    ]
    assert "95 % interval" in ran.out
    ran = run_steady(monkeypatch, capsys, *common, "--against", "base")
    assert ran.code == 2
    assert "1 item(s) of piqa are in only one of the two evaluations" in ran.err
    (kept,) = Path(".steady/evaluations").glob("tiny-base-*")  # the evaluation itself is not lost
    assert (kept / "results.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "MODEL: 'nowhere' is neither a folder nor a run below .steady; give a Hugging Face folder"),
        (("data",), "MODEL: data is no model folder; give"),
        ((str(MODEL), "--data", "missing"), "--data: there is no folder missing; check the path"),
        ((str(MODEL), "--data", "data", "--tasks", "sciq"), "--data: data has no sciq.jsonl (it has boolq, piqa); add"),
        ((str(MODEL), "--tasks", ","), "--tasks: ',' names no task; name groups"),
        ((str(MODEL), "--against", "data"), "--against: data holds no evaluation; give a folder"),
    ],
)
def test_a_mistake_gives_one_line_with_the_mend(
    arguments: tuple[str, ...],
    message: str,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran = run_steady(monkeypatch, capsys, "evaluate", *arguments)
    assert ran.code == 2
    assert f"steady: {message}" in ran.err
    assert len(ran.err.strip().splitlines()) == 1


def test_a_run_is_found_by_name_and_by_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = Path(".steady/demo/runs/full")
    run.mkdir(parents=True)
    with pytest.raises(UserError, match="'full' is not finished"):
        find_model("full")
    shutil.copytree(MODEL, run / "model")
    (run / "result.json").write_text(json.dumps({"model": "/gone/model"}))  # the run was moved here
    assert find_model("full") == find_model(str(run)) == run / "model"
    assert find_model(str(run / "model")) == run / "model"
    shutil.copytree(run, ".steady/other/runs/full")
    with pytest.raises(UserError, match=r"2 runs are called 'full'; give the folder of one: .*demo.*other"):
        find_model("full")
