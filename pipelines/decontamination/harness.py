"""Evaluation sets of lm-eval (EleutherAI's harness) by name. The package is optional and loads slowly: imported on use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from ground.errors import UserError
from pipelines.decontamination.walk import strings_of

_FIELD = "curation.decontamination.lm_eval"
_LOAD_ERRORS = (OSError, ValueError, LookupError, ImportError, RuntimeError)
"""What lm-eval and ``datasets`` raise: no such task (KeyError), no network (ConnectionError), no such split or data set
(ValueError, FileNotFoundError), a package that the task needs (ImportError)."""


def harness_items(names: Sequence[str]) -> dict[str, Callable[[], Iterator[list[str]]]]:
    """For each task that ``names`` stand for (groups and tags are opened), a call that yields its items' texts.

    Items are those of the test and the validation split; training splits may be trained on.

    Raises:
        UserError: lm-eval is not installed, knows no such name, or cannot get the data (no network).
    """
    if not names:
        return {}
    try:
        manager = import_module("lm_eval.tasks").TaskManager()
    except ImportError as error:
        raise UserError(_FIELD, f"lm-eval cannot be imported ({error})", "pip install lm-eval") from None
    found: dict[str, Callable[[], Iterator[list[str]]]] = {}
    for name in names:
        try:
            tasks = manager.load([name])["tasks"]
        except _LOAD_ERRORS as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            mend = (
                "check the name (lm-eval ls tasks) and that the hub or its cache has the data set, or use files (paths)"
            )
            raise UserError(_FIELD, f"{name!r} cannot be loaded ({reason})", mend) from None
        found |= {key: partial(_items, task) for key, task in tasks.items()}
    return found


def _items(task: Any) -> Iterator[list[str]]:
    if task.has_test_docs():
        yield from (list(strings_of(document)) for document in task.test_docs())
    if task.has_validation_docs():
        yield from (list(strings_of(document)) for document in task.validation_docs())
