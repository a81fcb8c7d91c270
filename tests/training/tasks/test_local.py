"""Tasks from local JSONL."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

from ground.errors import UserError
from training.tasks.groups import parse_tasks
from training.tasks.local import local_items
from training.tasks.prompts import prompt_of

SHARED = Path(__file__).parents[4] / "shared" / "data" / "benchmarks"


def row(**changes: Any) -> dict[str, Any]:
    return {"id": "q", "question": "Which?", "options": {"A": "one", "B": "two"}, "answer": "B", **changes}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def test_the_test_split_is_asked_and_ids_are_made_unique(tmp_path: Path) -> None:
    write(tmp_path / "t.jsonl", row(split="dev"), row(split="test"), row(split="test", answer=0), row(split="train"))
    items = local_items("t", tmp_path)
    assert [item.gold for item in items] == [1, 0]
    assert len({item.key for item in items}) == 2
    assert local_items("t", tmp_path, limit=1) == items[:1]


def test_validation_stands_in_for_a_missing_test_split(tmp_path: Path) -> None:
    write(tmp_path / "t.jsonl", row(split="train", id="a"), row(split="validation", id="b"))
    assert [item.key for item in local_items("t", tmp_path)] == ["b"]


def test_a_training_split_is_never_asked(tmp_path: Path) -> None:
    write(tmp_path / "t.jsonl", row(split="train"))
    with pytest.raises(UserError, match="has no item of t"):
        local_items("t", tmp_path)


def test_subjects_of_one_file_and_lists_of_options(tmp_path: Path) -> None:
    write(
        tmp_path / "mmlu.jsonl", row(task="mmlu_anatomy", options=["x", "y", "z"], answer="C"), row(task="mmlu_other")
    )
    (item,) = local_items("mmlu_anatomy", tmp_path)
    assert item.options == ("x", "y", "z")
    assert item.gold == 2


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_compressed_files_are_read(tmp_path: Path, ending: str) -> None:
    plain = write(tmp_path / "t.jsonl", row())
    data = plain.read_bytes()
    plain.unlink()
    packed = gzip.compress(data) if ending == "gz" else zstandard.ZstdCompressor().compress(data)
    (tmp_path / f"t.jsonl.{ending}").write_bytes(packed)
    assert len(local_items("t", tmp_path)) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{not json\n", "line 1 of .* is no JSON"),
        ("[1]\n", "is no JSON object"),
        (json.dumps(row(answer="Z")), "its answer 'Z' is none of its options"),
        (json.dumps(row(options={})), "fewer than two options"),
        (json.dumps({"question": "?"}), "lacks 'options'"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "t.jsonl").write_text(content)
    with pytest.raises(UserError, match=message):
        local_items("t", tmp_path)


def test_a_missing_set_and_a_missing_folder_say_the_mend(tmp_path: Path) -> None:
    write(tmp_path / "sciq.jsonl", row())
    with pytest.raises(UserError, match=r"has no race.jsonl \(it has sciq\); .*--tasks ...,-race"):
        local_items("race", tmp_path)
    with pytest.raises(UserError, match="there is no folder"):
        local_items("race", tmp_path / "none")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared benchmarks are not beside the repository")
def test_every_shared_item_can_be_asked() -> None:
    """Counts of the sets as published (paper table 5: MedMCQA 4,183, MedQA 1,273, PubMedQA 500)."""
    tasks, _ = parse_tasks("medical,general,-race")
    counts = {}
    for task in tasks:
        items = local_items(task, SHARED)
        counts[task] = len(items)
        assert len({item.key for item in items}) == len(items)
        for item in items:
            prompt = prompt_of(task, item)
            assert len(prompt.choices) == len(item.options)
    assert counts == {
        "mmlu_anatomy": 135,
        "mmlu_clinical_knowledge": 265,
        "mmlu_college_medicine": 173,
        "mmlu_medical_genetics": 100,
        "mmlu_professional_medicine": 272,
        "pubmedqa": 500,
        "medmcqa": 4183,
        "medqa_4options": 1273,
        "arc_easy": 2376,
        "arc_challenge": 1172,
        "boolq": 3270,
        "copa": 100,
        "hellaswag": 10042,
        "openbookqa": 500,
        "piqa": 1838,
        "sciq": 1000,
        "winogrande": 1267,
    }
