"""The recipe section ``curation.decontamination``: which evaluation sets, and what counts as repeating one."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ground.config import Section
from pipelines.naming import Name

FIELDS = (
    *("question", "query", "prompt", "instruction", "input", "problem", "goal", "premise", "hypothesis"),
    *("context", "contexts", "passage", "article", "story", "background", "support", "document", "text", "ctx"),
    *("options", "choices", "endings", "sol1", "sol2", "choice1", "choice2", "option1", "option2", "opa", "opb"),
    *("opc", "opd", "sentence", "sentence1", "sentence2", "answer", "answers", "solution", "long_answer"),
)
"""What a model is shown or asked for in the usual evaluation sets: lm-eval's and MIRAGE's."""

Fields = Annotated[tuple[str, ...], Field(min_length=1)]


class TaskConfig(Section):
    """One evaluation set in files."""

    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    """JSONL files (``.gz``, ``.zst`` too), globs, folders or URLs."""
    fields: Fields = FIELDS
    """Fields whose text is compared, whatever their case. Lists and objects in them are walked; every string is a text
    of its own, so that no n-gram crosses from a question into an option."""


class DecontaminationConfig(Section):
    """N-gram overlap of the corpus with evaluation sets."""

    tasks: dict[Name, TaskConfig] = Field(default_factory=dict)
    """Evaluation sets by name, where a set has several files or fields of its own."""
    paths: tuple[str, ...] = ()
    """More evaluation sets, each file one of them, named after the file."""
    lm_eval: tuple[str, ...] = ()
    """Tasks or groups of lm-eval by name; every text of an item is compared, since these sets name their fields freely.
    Needs ``pip install lm-eval`` and the data sets (from the hub or its cache)."""
    ngram: Annotated[int, Field(ge=2, le=100)] = 13
    """Words of an n-gram. GPT-3 (Brown et al. 2020, appendix C) used 8 to 13 by task, and lm-eval uses 13: long enough that
    two texts hardly share one by chance."""
    shortest: Annotated[int, Field(ge=2, le=100)] = 13
    """Evaluation texts of fewer than ``ngram`` words are compared whole, down to this many words; still shorter ones are
    skipped and counted. The default compares full n-grams only: at 8 words, answer options such as "after the end of the
    second world war" are nearly all of the 30 documents that it adds in 310 MB of text."""
    min_hits: Annotated[int, Field(ge=1)] = 1
    """Distinct n-grams of one evaluation text that a document must hold to count as a hit (or all the text has)."""
    min_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Smallest share of an evaluation text's n-grams that a document must hold; 0 leaves it to ``min_hits``."""
    max_items: Annotated[int, Field(ge=1)] = 100
    """N-grams that stand in more items than this are boilerplate (a prompt that every item repeats) and ignored; a passage
    under its dozens of questions stays below it."""
    action: Literal["drop", "report"] = "drop"
    """What happens to a document that hits: leave it out (``contaminated``), or keep it and only report it."""

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if self.shortest > self.ngram:
            raise ValueError(f"shortest ({self.shortest}) must not exceed ngram ({self.ngram}): lower it too")
        return self
