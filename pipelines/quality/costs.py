"""What each unit of a document costs under a language model, and the models that say so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ground.errors import UserError
from pipelines.quality.kenlm_model import NgramModel
from pipelines.quality.table import BEGIN, END, SCALE, UNKNOWN, NgramTable, unit_ids

Tokens = NDArray[np.uint32]

_WORD = re.compile(r"\w+|[^\w\s\0]")


@dataclass(frozen=True)
class Costs:
    """Costs of the units of a batch of documents."""

    values: NDArray[np.int32]
    """[units + documents] -log10 probability times ``SCALE``; after the units of each document, the cost of its end."""
    offsets: NDArray[np.int64]
    """[documents + 1] document i holds ``values[offsets[i]:offsets[i + 1]]``, at least its end."""

    @property
    def units(self) -> NDArray[np.int64]:
        """[documents] number of units, without the end."""
        return np.diff(self.offsets) - 1


class CostModel(Protocol):
    """A language model over tokens or words."""

    def costs(self, tokens: Sequence[Tokens], texts: Sequence[str]) -> Costs:
        """Costs of documents given as tokens and as text (whichever the model is over); independent of the batch."""

    def unigram_cost(self, ceiling: float) -> float:
        """Mean of min(cost in log10, ceiling) of units drawn one by one: domain words without any context."""


def split_words(text: str) -> list[str]:
    """Lower-cased words and single signs."""
    return _WORD.findall(text.lower())


def without_end(tokens: Tokens, end_id: int) -> Tokens:
    """The tokens without the end-of-document token, if it is there: the models have an end of their own."""
    return tokens[:-1] if len(tokens) and tokens[-1] == end_id else tokens


class TableModel:
    """A model held as hash tables: about 8 M tokens/s per core.

    Args:
        table: probabilities.
        end_id: end-of-document token.
        words: names of the units of a model over words; absent for a model over tokens.
    """

    def __init__(self, table: NgramTable, end_id: int, words: Sequence[str] | None = None) -> None:
        self._table, self._end_id = table, end_id
        self._numbers = None if words is None else dict(zip(words, _numbered(words), strict=True))

    def costs(self, tokens: Sequence[Tokens], texts: Sequence[str]) -> Costs:
        """See ``CostModel``."""
        ids, lengths = self._word_ids(texts) if self._numbers is not None else self._token_ids(tokens)
        ends = np.cumsum(lengths + 2)
        starts = ends - lengths - 2
        inside = np.ones(len(ids) + 2 * len(lengths), dtype=bool)
        inside[starts] = inside[ends - 1] = False
        opened = np.full(len(inside), END, dtype=np.int64)
        opened[starts], opened[inside] = BEGIN, ids
        values = np.delete(self._table.costs(opened), starts)
        return Costs(values, np.concatenate([[0], np.cumsum(lengths + 1)]).astype(np.int64))

    def unigram_cost(self, ceiling: float) -> float:
        """See ``CostModel``."""
        return self._table.unigram_cost(ceiling)

    def _token_ids(self, tokens: Sequence[Tokens]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All documents' ids behind each other, and how many each has."""
        lengths = np.array([len(ids) for ids in tokens], dtype=np.int64)
        ids = np.concatenate([np.zeros(0, dtype=np.uint32), *tokens])
        last = (np.cumsum(lengths) - 1)[lengths > 0]
        last = last[ids[last] == self._end_id]
        lengths[np.searchsorted(np.cumsum(lengths), last, side="right")] -= 1
        return unit_ids(np.delete(ids, last)), lengths

    def _word_ids(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        assert self._numbers is not None
        number = self._numbers.get
        documents = [[number(word, UNKNOWN) for word in split_words(text)] for text in texts]
        lengths = np.array([len(ids) for ids in documents], dtype=np.int64)
        return np.array([n for ids in documents for n in ids], dtype=np.int64), lengths


class KenlmModel:
    """A KenLM binary, which only KenLM reads: about 2 M units/s per core.

    Args:
        path: the ``.bin`` file.
        unknown_log10: log10 probability charged for a unit that the model does not know.
        end_id: end-of-document token.
        vocabulary: number of tokens; absent for a model over words.
    """

    def __init__(self, path: Path, unknown_log10: float, end_id: int, vocabulary: int | None) -> None:
        self._model, self._end_id, self._vocabulary = NgramModel(path, unknown_log10), end_id, vocabulary

    def costs(self, tokens: Sequence[Tokens], texts: Sequence[str]) -> Costs:
        """See ``CostModel``."""
        if self._vocabulary is None:
            log10 = [self._model.log10s(split_words(text)) for text in texts]
        else:
            log10 = [self._model.log10s(without_end(ids, self._end_id)) for ids in tokens]
        values = np.rint(np.concatenate([*log10, np.empty(0)]) * -SCALE).astype(np.int32)
        return Costs(values, np.cumsum([0, *map(len, log10)]))

    def knows_any_token(self) -> bool:
        """Whether the model knows at least one token of the vocabulary."""
        return any(map(self._model.knows, range(self._vocabulary or 0)))

    def unigram_cost(self, ceiling: float) -> float:
        """See ``CostModel``.

        Raises:
            UserError: the model is over words, which a binary does not list.
        """
        if self._vocabulary is None:
            problem = "method robust cannot list the words of a binary"
            raise UserError("curation.quality.model", problem, "give the .arpa it was made from, or method: perplexity")
        log10 = np.array([self._model.unigram_log10(n) for n in range(self._vocabulary) if self._model.knows(n)])
        weights = 10.0**log10
        return float(np.sum(weights * np.minimum(-log10, ceiling)) / np.sum(weights))


def _numbered(words: Sequence[str]) -> list[int]:
    return [int(number) for number in unit_ids(np.arange(len(words)))]
