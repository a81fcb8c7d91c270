"""Query n-gram models with KenLM, which alone reads its own binary files.

The units are words, or token ids written as decimal numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import kenlm
import numpy as np
import numpy.typing as npt

from ground.errors import UserError

Ids = Sequence[int] | Sequence[str] | npt.NDArray[np.uint32]


class NgramModel:
    """A KenLM model (ARPA or binary).

    Args:
        path: the model file.
        unknown_log10: log10 probability charged for each token that the model does not know, whatever it gives itself.

    Raises:
        UserError: the file is missing or is no KenLM model.
    """

    def __init__(self, path: Path, unknown_log10: float) -> None:
        self._path, self._unknown_log10 = path, unknown_log10
        config = kenlm.Config()
        config.show_progress = False
        config.arpa_complain = kenlm.ARPALoadComplain.NONE
        try:
            self._model = kenlm.Model(str(path), config)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            mend = "give an .arpa or .bin file that KenLM wrote, or leave it out"
            raise UserError("curation.quality.model", f"cannot read {path} ({reason})", mend) from None
        self._known: dict[str, bool] = {}

    def __reduce__(self) -> tuple[type[NgramModel], tuple[Path, float]]:
        return type(self), (self._path, self._unknown_log10)

    @property
    def order(self) -> int:
        """The largest n."""
        return int(self._model.order)

    def knows(self, token: int) -> bool:
        """Whether the token was in the training text."""
        return self._knows(str(token))

    def score(self, ids: Ids) -> float:
        """Mean negative log10 probability per token, end of sentence included: 10**score is the perplexity.

        Lower is better. No tokens: infinity.
        """
        if not len(ids):
            return math.inf
        words = _words(ids)
        line = " ".join(words)
        if all(map(self._knows, set(words))):
            total = float(self._model.score(line))
        else:  # seven times slower, but only this tells which tokens were charged as unknown
            scores = self._model.full_scores(line)
            total = math.fsum(self._unknown_log10 if unknown else log10 for log10, _, unknown in scores)
        return -total / (len(words) + 1)

    def log10s(self, ids: Ids) -> npt.NDArray[np.float64]:
        """[tokens + 1] log10 probability of each token and of the end, unknown ones at the price asked."""
        scores = self._model.full_scores(" ".join(_words(ids)))
        return np.array([self._unknown_log10 if unknown else log10 for log10, _, unknown in scores])

    def unigram_log10(self, token: int) -> float:
        """log10 probability of a token without any context."""
        state, out = kenlm.State(), kenlm.State()
        self._model.NullContextWrite(state)
        return float(self._model.BaseScore(state, str(token), out))

    def _knows(self, word: str) -> bool:
        known = self._known.get(word)
        if known is None:
            known = self._known[word] = word in self._model
        return known


def _words(ids: Ids) -> list[str]:
    return [str(token) for token in (ids.tolist() if isinstance(ids, np.ndarray) else ids)]
