"""Our words against lm-eval's own templates, filled with the same item in the hub's columns."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is not installed")

from lm_eval.tasks import TaskManager  # noqa: E402
from lm_eval.tasks._yaml_loader import load_yaml  # noqa: E402
from lm_eval.utils import apply_template  # noqa: E402

from training.tasks.groups import leaves  # noqa: E402
from training.tasks.prompts import Item, Prompt, prompt_of  # noqa: E402

FOUR = Item("1", "Which one?", ("the First", "a second", "Third", "none"), 2, "Some passage.")
LETTERS = ["A", "B", "C", "D"]
TEXTS = list(FOUR.options)

HUB: dict[str, tuple[Item, dict[str, Any]]] = {
    "mmlu_medical_genetics": (FOUR, {"question": FOUR.question, "choices": TEXTS, "answer": 2}),
    "medqa_4options": (
        FOUR,
        {"sent1": FOUR.question, "label": 2} | {f"ending{i}": text for i, text in enumerate(TEXTS)},
    ),
    "medmcqa": (
        FOUR,
        {"question": FOUR.question, "cop": 2} | dict(zip(("opa", "opb", "opc", "opd"), TEXTS, strict=True)),
    ),
    "pubmedqa": (
        Item("1", "Does it?", ("yes", "no", "maybe"), 1, "One.\nTwo."),
        {"QUESTION": "Does it?", "CONTEXTS": ["One.", "Two."], "final_decision": "no"},
    ),
    "arc_easy": (FOUR, {"question": FOUR.question, "choices": {"text": TEXTS, "label": LETTERS}, "answerKey": "C"}),
    "arc_challenge": (
        FOUR,
        {"question": FOUR.question, "choices": {"text": TEXTS, "label": LETTERS}, "answerKey": "C"},
    ),
    "openbookqa": (
        FOUR,
        {"question_stem": FOUR.question, "choices": {"text": TEXTS, "label": LETTERS}, "answerKey": "C"},
    ),
    "boolq": (
        Item("1", "is it so", ("no", "yes"), 1, "A passage."),
        {"question": "is it so", "passage": "A passage.", "label": 1},
    ),
    "copa": (
        Item("1", "The man left. [cause]", ("It rained.", "He was tired."), 1),
        {
            "premise": "The man left.",
            "question": "cause",
            "choice1": "It rained.",
            "choice2": "He was tired.",
            "label": 1,
        },
    ),
    "piqa": (
        Item("1", "open it", ("pull", "push"), 0),
        {"goal": "open it", "sol1": "pull", "sol2": "push", "label": 0},
    ),
    "sciq": (
        Item("1", "Which?", ("x", "y", "z", "w"), 3, " Support."),
        {"support": " Support.", "question": "Which?", "distractor1": "x", "distractor2": "y", "distractor3": "z"}
        | {"correct_answer": "w"},
    ),
    "hellaswag": (
        Item("1", "A man sits [step] there  now. He", ("[title] goes", "stays"), 1, "Roof work"),
        {"activity_label": "Roof work", "ctx_a": "A man sits [step] there  now.", "ctx_b": "he", "label": "1"}
        | {"endings": ["[title] goes", "stays"]},
    ),
    "winogrande": (
        Item("1", "Ann beat Eve as _ was fast.", ("Ann", "Eve"), 0),
        {"sentence": "Ann beat Eve as _ was fast.", "option1": "Ann", "option2": "Eve", "answer": "1"},
    ),
    "race": (
        Item("1", "What now?", ("w", "x", "y", "z"), 2, "Long text."),
        {
            "article": "Long text.",
            "problems": "[{'question': 'What now?', 'options': ['w', 'x', 'y', 'z'], 'answer': 'C'}]",
        },
    ),
}


@cache
def _tasks_of_lm_eval() -> TaskManager:
    """An index of the folders needed here alone: that of all of lm-eval's 14,000 tasks takes ten seconds to build."""
    folders = "mmlu/default medqa medmcqa pubmedqa arc openbookqa super_glue piqa sciq hellaswag winogrande race"
    root = Path(lm_eval.tasks.__file__).parent
    return TaskManager(include_path=[root / folder for folder in folders.split()], include_defaults=False)


def lm_evals_prompt(task: str, row: dict[str, Any]) -> tuple[Prompt, Any]:
    """What lm-eval's own task makes of a row of the hub, and its target."""
    config = load_yaml(_tasks_of_lm_eval().task_index[task].yaml_path, resolve_func=True)
    if task == "hellaswag":
        mapped = SimpleNamespace(map=lambda make: row | make(row))
        row = config["process_docs"](mapped)

    def fill(field: str) -> Any:
        template = config[field]
        if callable(template):
            return template(row)
        if isinstance(template, str) and template in row:
            return row[template]
        return apply_template(template, row) if isinstance(template, str) else template

    text, choices, target = fill("doc_to_text"), fill("doc_to_choice"), fill("doc_to_target")
    if isinstance(choices, str):
        choices = eval(choices)  # a list, written out by the template
    if isinstance(text, int):  # several contexts
        return Prompt(row["sentence"], tuple(choices), target), text
    gold = choices.index(target) if isinstance(target, str) and target in choices else int(target)
    return Prompt(config.get("description", "") + text, tuple(choices)), gold


@pytest.mark.parametrize("task", sorted(HUB))
def test_the_words_are_lm_evals(task: str) -> None:
    item, row = HUB[task]
    prompt, gold = lm_evals_prompt(task, row)
    assert prompt_of(task, item) == prompt
    assert gold == item.gold


def test_every_task_of_the_groups_is_held_against_lm_eval() -> None:
    known = {"mmlu_medical_genetics" if task.startswith("mmlu_") else task for task in leaves("medical")}
    assert known | set(leaves("general")) == set(HUB)


@pytest.mark.parametrize("task", ["copa", "winogrande"])
def test_an_item_that_lacks_its_mark_is_refused(task: str) -> None:
    with pytest.raises(ValueError, match="item"):
        prompt_of(task, FOUR)
