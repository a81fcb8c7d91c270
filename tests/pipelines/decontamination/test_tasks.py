"""Evaluation sets from files and lm-eval: fields, nesting, compression, and clear errors."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import zstandard
from pydantic import ValidationError

from ground.errors import UserError
from pipelines.decontamination import DecontaminationConfig, TaskConfig
from pipelines.decontamination.tasks import find_tasks


def write(path: Path, *records: object) -> str:
    data = "".join(json.dumps(record) + "\n" for record in records).encode()
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        data = zstandard.compress(data)
    path.write_bytes(data)
    return str(path)


def items_of(config: DecontaminationConfig) -> dict[str, list[list[str]]]:
    return {task.name: list(task.items()) for task in find_tasks(config)}


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst", "json"])
def test_known_fields_are_read_whatever_case_and_depth(tmp_path: Path, ending: str) -> None:
    path = write(
        tmp_path / f"set.{ending}",
        {"id": "a long identifier", "Question": "why", "options": {"A": "x", "B": ["y", {"deep": "z"}]}, "n": 3},
        {"question": None, "passage": "p"},
    )
    assert items_of(DecontaminationConfig(paths=(path,))) == {"set": [["why", "x", "y", "z"], ["p"]]}


def test_fields_can_be_chosen_and_files_joined(tmp_path: Path) -> None:
    paths = (write(tmp_path / "1.jsonl", {"stem": "a", "question": "b"}), write(tmp_path / "2.jsonl", {"stem": "c"}))
    config = DecontaminationConfig(tasks={"mine": TaskConfig(paths=paths, fields=("stem",))})
    assert items_of(config) == {"mine": [["a"], ["c"]]}


def test_no_known_field_names_the_file_and_its_fields(tmp_path: Path) -> None:
    path = write(tmp_path / "odd.jsonl", {"frage": "warum", "antwort": "darum"}, {"question": "  "})
    with pytest.raises(UserError, match=r"odd\.jsonl has no text.*frage, antwort, question.*fields") as error:
        items_of(DecontaminationConfig(paths=(path,)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "problem"), [("{", "line 2 of .* is no JSON"), ("[1]", "line 2 of .* no JSON object")]
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text('{"question": "a"}\n' + line + "\n")
    with pytest.raises(UserError, match=problem):
        items_of(DecontaminationConfig(paths=(str(path),)))


def test_mistakes_in_the_names_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "set.jsonl", {"question": "a"})
    with pytest.raises(UserError, match="names no evaluation set"):
        find_tasks(DecontaminationConfig())
    with pytest.raises(UserError, match="two evaluation sets are called 'set'"):
        find_tasks(DecontaminationConfig(paths=(path,), tasks={"set": TaskConfig(paths=(path,))}))
    with pytest.raises(UserError, match="missing"):
        find_tasks(DecontaminationConfig(paths=(str(tmp_path / "missing.jsonl"),)))
    (tmp_path / "set.txt").write_text("text")
    with pytest.raises(UserError, match="no JSONL"):
        items_of(DecontaminationConfig(paths=(str(tmp_path / "set.txt"),)))
    with pytest.raises(ValidationError, match="must not exceed ngram"):
        DecontaminationConfig(ngram=8)


def test_lm_eval_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)  # another test may have loaded it
    with pytest.raises(UserError, match="pip install lm-eval"):
        find_tasks(DecontaminationConfig(lm_eval=("arc_easy",)))


class FakeTask:
    """What a task of lm-eval 0.4 offers."""

    def __init__(self, test: list[object] | None, validation: list[object] | None) -> None:
        self.test, self.validation = test, validation

    def has_test_docs(self) -> bool:
        return self.test is not None

    def has_validation_docs(self) -> bool:
        return self.validation is not None

    def test_docs(self) -> list[object]:
        return self.test or []

    def validation_docs(self) -> list[object]:
        return self.validation or []


def test_lm_eval_tasks_give_every_text_of_test_and_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = {
        "one": FakeTask([{"stem": "a", "choices": {"text": ["b", "c"], "label": [1, 2]}}], None),
        "two": FakeTask([{"q": "d"}], [{"q": "e"}]),
    }

    def load(names: list[str]) -> dict[str, object]:
        if names == ["offline"]:
            raise ConnectionError("Couldn't reach 'x/y' on the Hub")
        return {"tasks": {"group": tasks}.get(names[0]) or {names[0]: tasks[names[0]]}}

    module = ModuleType("lm_eval.tasks")
    module.TaskManager = lambda: SimpleNamespace(load=load)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lm_eval", ModuleType("lm_eval"))
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", module)
    assert items_of(DecontaminationConfig(lm_eval=("group", "one"))) == {
        "one": [["a", "b", "c"]],
        "two": [["d"], ["e"]],
    }
    with pytest.raises(UserError, match=r"'offline' cannot be loaded.*Couldn't reach"):
        find_tasks(DecontaminationConfig(lm_eval=("offline",)))
    with pytest.raises(UserError, match="'unknown' cannot be loaded"):
        find_tasks(DecontaminationConfig(lm_eval=("unknown",)))
