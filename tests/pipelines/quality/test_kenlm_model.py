"""KenLM over our models: right probabilities, unknowns at the price asked, clear words about a file that is no model."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ground.errors import UserError
from pipelines.quality.kenlm_model import NgramModel
from tests.helpers.arpa import write_arpa

SEQUENCES = [[i % 7, i % 5, i % 3, (i * i) % 11, i % 2] for i in range(1, 60)]
UNKNOWN = -6.5


@pytest.fixture(scope="module")
def arpa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ngram") / "model.arpa"
    write_arpa(path, SEQUENCES, 3)
    return path


def test_probabilities_of_the_next_token_sum_to_one(arpa: Path) -> None:
    """Over the known words, an unknown one and the end: what a document is charged are true probabilities."""
    import kenlm

    model = kenlm.Model(str(arpa))
    state, out = kenlm.State(), kenlm.State()
    model.BeginSentenceWrite(state)
    words = [str(token) for token in range(11) if str(token) in model] + ["</s>", "<unk>"]
    assert math.isclose(sum(10 ** model.BaseScore(state, word, out) for word in words), 1, rel_tol=1e-4)


def test_score_is_the_mean_over_tokens_and_end(arpa: Path) -> None:
    import kenlm

    model = NgramModel(arpa, UNKNOWN)
    assert model.order == 3
    assert model.score(SEQUENCES[0]) == pytest.approx(-kenlm.Model(str(arpa)).score("1 1 1 1 1") / 6)
    assert 10 ** model.score([1, 2, 0]) == pytest.approx(kenlm.Model(str(arpa)).perplexity("1 2 0"))
    assert model.score(np.array([1, 2, 0], dtype=np.uint32)) == model.score([1, 2, 0])


def test_unknown_tokens_cost_what_was_asked(arpa: Path) -> None:
    cheap, dear = NgramModel(arpa, -2.0), NgramModel(arpa, -8.0)
    assert dear.score([1, 99, 1]) - cheap.score([1, 99, 1]) == pytest.approx(6.0 / 4)
    assert dear.score([1, 2]) == cheap.score([1, 2])
    assert not cheap.knows(99)
    assert cheap.knows(1)


def test_empty_document_is_the_worst(arpa: Path) -> None:
    assert NgramModel(arpa, UNKNOWN).score([]) == math.inf


@given(ids=st.lists(st.integers(0, 20), min_size=1, max_size=30))
def test_every_score_is_finite_and_positive(arpa: Path, ids: list[int]) -> None:
    assert 0 < NgramModel(arpa, UNKNOWN).score(ids) < 12


def test_model_travels_to_another_process(arpa: Path) -> None:
    model = NgramModel(arpa, UNKNOWN)
    assert pickle.loads(pickle.dumps(model)).score([1, 99]) == model.score([1, 99])


@pytest.mark.parametrize("content", [None, b"", b"no model", b"\\data\\\nngram 1=x\n"])
def test_unreadable_model_is_one_clear_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.arpa"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"^curation\.quality\.model: cannot read .*model\.arpa"):
        NgramModel(path, UNKNOWN)
