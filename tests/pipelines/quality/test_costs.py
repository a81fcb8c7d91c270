"""From documents to costs: ends of documents, words, and KenLM binaries say the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.quality.arpa import read_arpa
from pipelines.quality.costs import KenlmModel, TableModel, split_words
from pipelines.quality.table import SCALE, build_table

END, VOCABULARY = 11, 12
DOCUMENTS = st.lists(st.lists(st.integers(0, 10), max_size=20), max_size=6)


def _arrays(documents: list[list[int]]) -> list[np.ndarray]:
    return [np.array(document, dtype=np.uint32) for document in documents]


def _model(path: Path) -> TableModel:
    return TableModel(build_table(read_arpa(path, [str(n) for n in range(VOCABULARY)])[1], VOCABULARY, -6.5), END)


@given(documents=DOCUMENTS, ended=st.lists(st.booleans(), min_size=6, max_size=6))
def test_end_of_document_is_not_scored(arpas: dict[int, Path], documents: list[list[int]], ended: list[bool]) -> None:
    model = _model(arpas[3])
    texts = [""] * len(documents)
    plain = model.costs(_arrays(documents), texts)
    mixed = model.costs(
        _arrays([[*document, END] if end else document for document, end in zip(documents, ended, strict=False)]), texts
    )
    assert plain.values.tobytes() == mixed.values.tobytes()
    assert plain.offsets.tolist() == mixed.offsets.tolist()
    assert plain.units.tolist() == [len(document) for document in documents]


@given(documents=DOCUMENTS)
def test_kenlm_and_tables_agree(arpas: dict[int, Path], documents: list[list[int]]) -> None:
    by_table, by_kenlm = _model(arpas[3]), KenlmModel(arpas[3], -6.5, END, VOCABULARY)
    first, second = (model.costs(_arrays(documents), [""] * len(documents)) for model in (by_table, by_kenlm))
    np.testing.assert_allclose(first.values / SCALE, second.values / SCALE, atol=2e-5)
    assert first.offsets.tolist() == second.offsets.tolist()
    assert first.values.dtype == second.values.dtype == np.int32


def test_unigram_costs_agree(arpas: dict[int, Path]) -> None:
    by_table, by_kenlm = _model(arpas[3]), KenlmModel(arpas[3], -6.5, END, VOCABULARY)
    assert by_table.unigram_cost(1.0) == pytest.approx(by_kenlm.unigram_cost(1.0), rel=1e-4)
    assert 0.5 < by_table.unigram_cost(4.0) < 1.1


def test_words_are_lower_cased_and_signs_stand_alone() -> None:
    text = "Fever (38.5 °C), naïve\u00a0β-cells;\n\x00 日本"
    assert split_words(text) == [
        "fever",
        "(",
        "38",
        ".",
        "5",
        "°",
        "c",
        ")",
        ",",
        "naïve",
        "β",
        "-",
        "cells",
        ";",
        "日本",
    ]
