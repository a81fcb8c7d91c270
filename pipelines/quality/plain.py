"""Plain perplexity by KenLM, one document at a time: what ``curate`` uses until it trains models by folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ground.errors import UserError
from pipelines.ngram import NgramModel, Trainer, train_ngram

Tokens = npt.NDArray[np.uint32]


def train_quality_model(
    documents: Iterable[Tokens], eos_id: int, order: int, path: Path, trainer: Trainer | None = None
) -> None:
    """Train the n-gram model on encoded reference documents (see ``encode_batch``) and write it to ``path`` (ARPA).

    Raises:
        UserError: there is no token to train on.
    """
    train_ngram((_without_end(tokens, eos_id) for tokens in documents), order, path, trainer)


class QualityScorer:
    """Scores encoded documents. One to a process: KenLM holds the model in memory.

    Args:
        path: n-gram model over the ids of the tokenizer in use (ARPA or KenLM binary).
        unknown_log10: log10 probability charged for a token the model has not seen.
        eos_id: end-of-document token; it is not scored, since the model has an end of its own.
        vocabulary: number of token ids, to notice a model that was trained over something else.

    Raises:
        UserError: the model cannot be read, or knows not one of the tokenizer's ids.
    """

    def __init__(self, path: Path, unknown_log10: float, eos_id: int, vocabulary: int) -> None:
        self._model, self._eos_id = NgramModel(path, unknown_log10), eos_id
        if not any(map(self._model.knows, range(vocabulary))):
            mend = "train it on token ids of the same tokenizer, written as decimal numbers"
            raise UserError("curation.quality.model", f"{path} knows no token of the tokenizer", mend)

    def __call__(self, documents: Sequence[Tokens]) -> npt.NDArray[np.float64]:
        """Mean negative log10 probability per token of each document, shape (documents,); empty ones get infinity."""
        scores = [self._model.score(_without_end(tokens, self._eos_id)) for tokens in documents]
        return np.array(scores, dtype=np.float64)


def _without_end(tokens: Tokens, eos_id: int) -> Tokens:
    return tokens[:-1] if len(tokens) and tokens[-1] == eos_id else tokens
