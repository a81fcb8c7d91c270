"""A linear classifier of reference against general text over hashed tokens and pairs of tokens, after fastText.

Joulin et al. 2017, "Bag of Tricks for Efficient Text Classification"; as a quality filter: Li et al. 2024, "DataComp-LM",
section 4.4. Instead of averaged word vectors it is a logistic regression on the averaged features themselves, which is convex:
the same texts give the same weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.quality.config import ClassifierConfig
from pipelines.quality.costs import Tokens, without_end
from pipelines.quality.table import SCALE

_TOKEN, _FIRST, _SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9))
_LARGEST_WEIGHT = 1 << 30
_BLOCK = 1 << 18
_ITERATIONS = 200


@dataclass(frozen=True)
class ClassifierScorer:
    """Log odds of general against reference text: negative for text like the reference.

    Args:
        weights: [2**bits + 1] int32, times ``SCALE``; the last one is the intercept.
        end_id: end-of-document token.
    """

    weights: NDArray[np.int32]
    end_id: int

    def __call__(self, tokens: Sequence[Tokens], texts: Sequence[str]) -> NDArray[np.float64]:  # noqa: ARG002 - over tokens
        """See ``Scorer``: the mean weight of a document's features plus the intercept."""
        bits = (len(self.weights) - 1).bit_length() - 1
        scores = np.full(len(tokens), np.inf)
        for index, document in enumerate(tokens):
            ids = without_end(document, self.end_id)
            if not len(ids):
                continue
            total = 0
            for start in range(0, len(ids), _BLOCK):
                block = ids[max(0, start - 1) : start + _BLOCK]
                total += int(self.weights[_features(block, bits, skip=start > 0)].sum(dtype=np.int64))
            scores[index] = (total / (2 * len(ids) - 1) + int(self.weights[-1])) / SCALE
        return scores


def train_classifier(
    reference: Iterable[Tokens], general: Iterable[Tokens], config: ClassifierConfig
) -> NDArray[np.int32]:
    """Weights for ``ClassifierScorer``. Both classes count the same, whatever their sizes.

    Args:
        reference: token ids of each reference document, without end-of-document token.
        general: those of the general documents.
    """
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    columns, values, ends, labels = [], [], [0], []
    for label, documents in enumerate((reference, general)):
        for ids in documents:
            for start in range(0, len(ids), config.chunk_tokens):
                features = _features(ids[start : start + config.chunk_tokens], config.bits)
                column, count = np.unique(features, return_counts=True)
                columns.append(column)
                values.append(count / len(features))
                ends.append(ends[-1] + len(column))
                labels.append(label)
    # liblinear reads 32-bit indices only.
    data = (np.concatenate(values), np.concatenate(columns).astype(np.int32), np.array(ends, dtype=np.int32))
    model = LogisticRegression(
        C=config.inverse_penalty, solver="liblinear", class_weight="balanced", random_state=0, max_iter=_ITERATIONS
    )
    model.fit(csr_matrix(data, shape=(len(labels), 1 << config.bits)), np.array(labels))
    weights = np.rint(np.append(model.coef_[0], model.intercept_[0]) * SCALE)
    clipped: NDArray[np.int32] = np.clip(weights, -_LARGEST_WEIGHT, _LARGEST_WEIGHT).astype(np.int32)
    return clipped


def _features(ids: Tokens, bits: int, *, skip: bool = False) -> NDArray[np.int64]:
    """Hashes of the tokens and of the pairs of neighbours: [2 n - 1], or one token less if the first only opens a pair."""
    wide = ids.astype(np.uint64) + np.uint64(1)
    shift = np.uint64(64 - bits)
    single = (wide[1:] if skip else wide) * _TOKEN
    pairs = (wide[:-1] * _FIRST + wide[1:]) * _SECOND
    return (np.concatenate([single, pairs]) >> shift).astype(np.int64)
