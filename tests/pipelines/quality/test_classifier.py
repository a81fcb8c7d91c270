"""The linear classifier: separates, is deterministic, and looks at pairs, in blocks or at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.quality import classifier as module
from pipelines.quality.classifier import ClassifierScorer, train_classifier
from pipelines.quality.config import ClassifierConfig
from pipelines.quality.table import SCALE

CONFIG = ClassifierConfig(bits=14, chunk_tokens=20)
END = 99


def _texts(seed: int, step: int) -> list[np.ndarray]:
    """All tokens equally often in both kinds; only the order differs."""
    random = np.random.default_rng(seed)
    return [((np.arange(60) * step + random.integers(30)) % 30).astype(np.uint32) for _ in range(20)]


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    return train_classifier(_texts(0, 1), _texts(1, 7), CONFIG)


def test_separates_by_pairs_alone(weights: np.ndarray) -> None:
    scorer = ClassifierScorer(weights, END)
    reference, general = scorer(_texts(2, 1), []), scorer(_texts(3, 7), [])
    assert np.max(reference) < 0 < np.min(general)


def test_same_texts_give_the_same_weights(weights: np.ndarray) -> None:
    assert weights.dtype == np.int32
    assert weights.shape == ((1 << 14) + 1,)
    assert train_classifier(_texts(0, 1), _texts(1, 7), CONFIG).tobytes() == weights.tobytes()


@given(ids=st.lists(st.integers(0, 60), max_size=40), block=st.integers(1, 9))
def test_score_is_the_mean_weight_of_tokens_and_pairs(weights: np.ndarray, ids: list[int], block: int) -> None:
    tokens = np.array([*ids, END], dtype=np.uint32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        (score,) = ClassifierScorer(weights, END)([tokens], [""])
    if not ids:
        assert score == math.inf
        return
    features = module._features(tokens[:-1], 14)
    assert len(features) == 2 * len(ids) - 1
    assert score == pytest.approx((weights[features].mean() + weights[-1]) / SCALE)


def test_unequal_classes_count_the_same() -> None:
    """Four times as much general text does not make everything look general."""
    scorer = ClassifierScorer(train_classifier(_texts(0, 1)[:5], _texts(1, 7), CONFIG), END)
    both = scorer([*_texts(2, 1), *_texts(3, 7)], [])
    assert np.median(both[:20]) < 0 < np.median(both[20:])
