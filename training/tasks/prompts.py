"""How an item is asked: the same words that lm-eval's own task of that name would use.

lm-eval's templates expect the columns of each data set on the hub; local files have one form for all (`Item`). So the words
are made here, and the tests hold them against lm-eval's templates.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """One multiple-choice question."""

    key: str
    """Unique within its task."""
    question: str
    options: tuple[str, ...]
    gold: int
    """Index of the right option."""
    context: str = ""
    """A passage the question is about, or what the data set calls the activity (HellaSwag)."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model is shown.

    Without ``ending``, each choice is scored after ``text`` and a space. With it (WinoGrande), each choice is the whole text
    before, and the one ending is scored after each.
    """

    text: str
    choices: tuple[str, ...]
    ending: str | None = None


def prompt_of(task: str, item: Item) -> Prompt:
    """The prompt of an item of ``task``; a task that is not known is asked plainly, options scored as whole texts.

    Raises:
        ValueError: the item lacks what the task needs (a blank ``_`` in WinoGrande, ``[cause]`` or ``[effect]`` in COPA).
    """
    if task.startswith("mmlu_"):
        return _mmlu(item, task.removeprefix("mmlu_").replace("_", " "))
    return _STYLES.get(task, _plain)(item)


def _letters(item: Item) -> tuple[str, ...]:
    return tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(item.options)])


def _listed(item: Item) -> str:
    return "".join(f"{letter}. {option}\n" for letter, option in zip(_letters(item), item.options, strict=True))


def _mmlu(item: Item, subject: str) -> Prompt:
    head = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
    return Prompt(f"{head}{item.question.strip()}\n{_listed(item)}Answer:", _letters(item))


def _medqa(item: Item) -> Prompt:
    return Prompt(f"Question: {item.question}\n{_listed(item)}Answer:", _letters(item))


def _medmcqa(item: Item) -> Prompt:
    return Prompt(f"Question: {item.question}\nChoices:\n{_listed(item)}Answer:", _letters(item))


def _pubmedqa(item: Item) -> Prompt:
    return Prompt(f"Abstract: {item.context}\nQuestion: {item.question}\nAnswer:", item.options)


def _question(item: Item) -> Prompt:
    return Prompt(f"Question: {item.question}\nAnswer:", item.options)


def _boolq(item: Item) -> Prompt:
    return Prompt(f"{item.context}\nQuestion: {item.question}?\nAnswer:", item.options)


def _sciq(item: Item) -> Prompt:
    return Prompt(f"{item.context.lstrip()}\nQuestion: {item.question}\nAnswer:", item.options)


def _bare(item: Item) -> Prompt:
    return Prompt(item.question, item.options)


def _race(item: Item) -> Prompt:
    return Prompt(f"Article: {item.context}\n\n{item.question}", item.options)


def _copa(item: Item) -> Prompt:
    match = re.fullmatch(r"(.*\S)\s*\[(cause|effect)\]", item.question.strip(), re.DOTALL)
    if match is None:
        raise ValueError("the question of a COPA item ends with [cause] or [effect]")
    connector = "because" if match[2] == "cause" else "therefore"
    # lm-eval's own choices start with a space too, so two spaces stand before each.
    choices = tuple(f" {option[:1].lower()}{option[1:]}" for option in item.options)
    return Prompt(f"{match[1].strip()[:-1]} {connector}", choices)


def _winogrande(item: Item) -> Prompt:
    before, blank, after = item.question.partition("_")
    if not blank:
        raise ValueError("the question of a WinoGrande item has a blank, written _")
    return Prompt(item.question, tuple(before + option for option in item.options), after.strip())


def _hellaswag(item: Item) -> Prompt:
    text = f"{item.context}: {item.question}" if item.context else item.question
    return Prompt(_without_marks(text), tuple(_without_marks(option) for option in item.options))


def _without_marks(text: str) -> str:
    """HellaSwag's WikiHow half has marks in brackets; lm-eval takes them out in this order."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")


def _plain(item: Item) -> Prompt:
    head = f"{item.context}\n" if item.context else ""
    return Prompt(f"{head}Question: {item.question}\nAnswer:", item.options)


_STYLES: dict[str, Callable[[Item], Prompt]] = {
    "medqa_4options": _medqa,
    "medmcqa": _medmcqa,
    "pubmedqa": _pubmedqa,
    "arc_easy": _question,
    "arc_challenge": _question,
    "piqa": _question,
    "boolq": _boolq,
    "sciq": _sciq,
    "openbookqa": _bare,
    "race": _race,
    "copa": _copa,
    "winogrande": _winogrande,
    "hellaswag": _hellaswag,
}
