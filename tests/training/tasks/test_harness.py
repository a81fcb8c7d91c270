"""Accuracy through Steady is lm-eval's own, item by item."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="lm-eval is not installed")

from ground.errors import UserError
from training.tasks.groups import parse_tasks
from training.tasks.harness import evaluate_model
from training.tasks.results import read_evaluation

MODEL = Path(__file__).parents[3] / "models" / "tiny-base"
SHARED = Path(__file__).parents[4] / "shared" / "data" / "benchmarks"
NOUNS = ("city", "river", "book", "law", "school", "war", "ship", "king", "church", "film")


def rows() -> list[dict[str, Any]]:
    """Made-up questions with a passage."""
    return [
        {
            "id": f"q{i}",
            "question": f"Which of these is a {noun}?",
            "context": f"The old {noun} was in the north.",
            "options": {"A": f"the {noun}", "B": NOUNS[i - 1], "C": "nothing of the kind"},
            "answer": "ABC"[i % 3],
        }
        for i, noun in enumerate(NOUNS)
    ]


def write(path: Path, content: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(one) + "\n" for one in content))


def direct(yaml: str, name: str, folder: Path) -> dict[str, Any]:
    """A plain lm-eval run of a task written by hand."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    (folder / f"{name}.yaml").write_text(yaml)
    found = simple_evaluate(
        model=HFLM(pretrained=str(MODEL), device="cpu", dtype="float32", batch_size=1),
        tasks=[name],
        num_fewshot=0,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
    )
    assert found is not None
    return dict(found)


HEAD = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}, cache_dir: {cache}}}
test_split: test
output_type: multiple_choice
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
BY_HAND = {
    "sciq": """
doc_to_text: "{{context.lstrip()}}\\nQuestion: {{question}}\\nAnswer:"
doc_to_choice: "{{[options.A, options.B, options.C]}}"
doc_to_target: "{{['A', 'B', 'C'].index(answer)}}"
""",
    "medqa_4options": """
doc_to_text: "Question: {{question}}\\nA. {{options.A}}\\nB. {{options.B}}\\nC. {{options.C}}\\nAnswer:"
doc_to_choice: ["A", "B", "C"]
doc_to_target: "{{['A', 'B', 'C'].index(answer)}}"
""",
}


@pytest.mark.parametrize("task", sorted(BY_HAND))
@pytest.mark.slow
def test_accuracy_equals_a_direct_run_of_lm_eval(task: str, tmp_path: Path) -> None:
    data, by_hand = tmp_path / "data", tmp_path / "by_hand"
    data.mkdir()
    by_hand.mkdir()
    write(data / f"{task}.jsonl", rows())
    head = HEAD.format(name="by_hand", file=data / f"{task}.jsonl", cache=tmp_path / "cache")
    expected = direct(head + BY_HAND[task], "by_hand", by_hand)

    ours = evaluate_model(MODEL, [task], {}, data=data)

    result = expected["results"]["by_hand"]
    (score,) = ours.tasks
    assert score.n == 10
    assert (score.acc, score.acc_norm) == (result["acc,none"], result["acc_norm,none"])
    assert (score.acc_stderr, score.acc_norm_stderr) == (result["acc_stderr,none"], result["acc_norm_stderr,none"])
    samples = {sample["doc"]["id"]: sample for sample in expected["samples"]["by_hand"]}
    assert [item.key for item in ours.items] == [f"q{i}" for i in range(10)]
    for item in ours.items:
        assert (item.acc, item.acc_norm) == (samples[item.key]["acc"], samples[item.key]["acc_norm"])
    assert 0 < score.acc < 1, "the items must be able to tell"


def test_winogrande_scores_the_ending_after_each_option(tmp_path: Path) -> None:
    sentences = [
        {
            "id": str(i),
            "question": f"The {a} met the {b} because the _ was old and alone.",
            "options": [a, b],
            "answer": i % 2,
        }
        for i, (a, b) in enumerate(pairwise(NOUNS))
    ]
    write(tmp_path / "winogrande.jsonl", sentences)
    (tmp_path / "hand").mkdir()
    head = HEAD.format(name="by_hand", file=tmp_path / "winogrande.jsonl", cache=tmp_path / "cache")
    template = """
doc_to_text: answer
doc_to_choice: "{{[question.split('_')[0] + options[0], question.split('_')[0] + options[1]]}}"
doc_to_target: "{{question.split('_')[1].strip()}}"
"""
    expected = direct(head + template, "by_hand", tmp_path / "hand")
    ours = evaluate_model(MODEL, ["winogrande"], {}, data=tmp_path)
    assert ours.tasks[0].acc == expected["results"]["by_hand"]["acc,none"]
    assert [item.acc for item in ours.items] == [sample["acc"] for sample in expected["samples"]["by_hand"]]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared benchmarks are not beside the repository")
def test_all_groups_run_and_come_back_from_disk(tmp_path: Path) -> None:
    tasks, groups = parse_tasks("medical,general,-race")
    done = evaluate_model(MODEL, tasks, groups, data=SHARED, limit=1)
    done.write(tmp_path)
    assert read_evaluation(tmp_path) == done
    assert len(done.items) == len(tasks) == 17
    assert [score.acc_stderr for score in done.tasks] == [None] * 17  # one item has no spread
    for group in done.group_scores:
        members = groups[group.group]
        expected = sum(members[score.task] * score.acc for score in done.tasks if score.task in members)
        assert group.acc == pytest.approx(expected)
        assert group.acc_stderr is None


def test_a_folder_that_is_no_model_is_refused_before_lm_eval_loads(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"MODEL: .* is no model folder; give a Hugging Face folder"):
        evaluate_model(tmp_path, ["sciq"], {})
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="has no weights"):
        evaluate_model(tmp_path, ["sciq"], {})
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    write(tmp_path / "sciq.jsonl", rows())
    with pytest.raises(UserError, match="cannot be loaded"):
        evaluate_model(tmp_path, ["sciq"], {}, data=tmp_path)


@pytest.mark.slow
def test_a_task_of_the_hub_and_its_local_twin_ask_and_score_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lm-eval's own task, its data set handed over instead of downloaded."""
    from datasets import Dataset, DatasetDict, load_dataset

    twin = [{**row, "options": [*row["options"].values(), "none"], "answer": 3} for row in rows()]
    write(tmp_path / "sciq.jsonl", twin)
    names = ("distractor1", "distractor2", "distractor3", "correct_answer")
    hub = [
        {"question": row["question"], "support": row["context"], **dict(zip(names, row["options"], strict=True))}
        for row in twin
    ]

    def load(path: str, *arguments: Any, **options: Any) -> Any:
        if path == "allenai/sciq":
            return DatasetDict(dict.fromkeys(("train", "validation", "test"), Dataset.from_list(hub)))
        return load_dataset(path, *arguments, **options)

    monkeypatch.setattr("lm_eval.api.task.datasets.load_dataset", load)
    from_hub = evaluate_model(MODEL, ["sciq"], {}, limit=6)
    local = evaluate_model(MODEL, ["sciq"], {}, data=tmp_path, limit=6)
    assert from_hub.tasks == local.tasks
    assert [(item.digest, item.acc, item.acc_norm) for item in from_hub.items] == [
        (item.digest, item.acc, item.acc_norm) for item in local.items
    ]
    assert len({item.key for item in from_hub.items}) == 6


@pytest.mark.slow
def test_an_unknown_task_of_the_hub_is_named() -> None:
    with pytest.raises(UserError, match=r"'no_such_task' cannot be loaded .*check the name"):
        evaluate_model(MODEL, ["no_such_task"], {})


def test_items_that_cannot_be_asked_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "copa.jsonl", rows())
    with pytest.raises(UserError, match=r"an item of copa cannot be asked: .*\[cause\] or \[effect\]"):
        evaluate_model(MODEL, ["copa"], {}, data=tmp_path)
