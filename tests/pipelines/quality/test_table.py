"""The hash tables say what KenLM says, whatever the batch; files that are no models are one clear line."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ground.errors import UserError
from pipelines.quality import table as module
from pipelines.quality.arpa import Grams, read_arpa
from pipelines.quality.kenlm_model import NgramModel
from pipelines.quality.table import BEGIN, END, SCALE, NgramTable, build_table, unit_ids

VOCABULARY = 12
UNITS = [str(n) for n in range(VOCABULARY)]
DOCUMENTS = st.lists(st.lists(st.integers(0, VOCABULARY - 1), max_size=25), max_size=8)


def _table(path: Path, unknown_log10: float = -6.5) -> NgramTable:
    return build_table(read_arpa(path, UNITS)[1], VOCABULARY, unknown_log10)


def _opened(document: list[int]) -> np.ndarray:
    return np.concatenate([[BEGIN], unit_ids(np.array(document, dtype=np.int64)), [END]])


@pytest.mark.parametrize("order", [2, 3, 4, 5])
@given(document=st.lists(st.integers(0, VOCABULARY - 1), max_size=40))
def test_costs_are_those_of_kenlm(arpas: dict[int, Path], order: int, document: list[int]) -> None:
    table, model = _table(arpas[order]), NgramModel(arpas[order], -6.5)
    costs = table.costs(_opened(document))
    assert costs[0] == 0
    np.testing.assert_allclose(costs[1:] / -SCALE, model.log10s(document), atol=2e-5)


@given(documents=DOCUMENTS, block=st.integers(1, 7))
def test_costs_do_not_depend_on_batch_or_block(arpas: dict[int, Path], documents: list[list[int]], block: int) -> None:
    table = _table(arpas[4])
    alone = [table.costs(_opened(document)) for document in documents]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        together = table.costs(np.concatenate([np.zeros(0, dtype=np.int64), *map(_opened, documents)]))
    assert np.concatenate([np.zeros(0, dtype=np.int32), *alone]).tobytes() == together.tobytes()


def test_saved_table_is_the_same_table(arpas: dict[int, Path], tmp_path: Path) -> None:
    table = _table(arpas[3])
    table.save(tmp_path / "a")
    table.save(tmp_path / "b")
    ids = _opened(list(range(VOCABULARY)) * 3)
    assert NgramTable.load(tmp_path / "a", -6.5).costs(ids).tobytes() == table.costs(ids).tobytes()
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_damaged_table_is_one_clear_line(arpas: dict[int, Path], tmp_path: Path) -> None:
    _table(arpas[2]).save(tmp_path)
    (tmp_path / "order-2.npy").write_bytes(b"no array")
    with pytest.raises(UserError, match=r"order-2\.npy: cannot be read"):
        NgramTable.load(tmp_path, -6.5)


@given(keys=st.sets(st.integers(0, 1 << 62), max_size=300), others=st.sets(st.integers(0, 1 << 62), max_size=50))
def test_every_key_is_found_and_no_other(keys: set[int], others: set[int]) -> None:
    array = np.array(sorted(keys), dtype=np.int64)
    values = np.arange(len(keys), dtype=np.float32)
    table = module._build(array, values, -values)
    found = module._find(table, array)
    assert (table[found, 1].view(np.float32).reshape(-1, 2) == np.stack([values, -values], axis=1)).all()
    assert (module._find(table, np.array(sorted(others - keys), dtype=np.int64)) == -1).all()


def test_unigram_cost_is_the_entropy_of_the_unigrams() -> None:
    log10 = np.log10(np.array([0.5, 0.25, 0.25], dtype=np.float32))
    table = build_table([Grams(np.arange(3, 6).reshape(-1, 1), log10, 0 * log10)], 4, -6.5)
    assert table.unigram_cost(99.0) == pytest.approx(1.5 * math.log10(2))
    assert table.unigram_cost(math.log10(3)) == pytest.approx(0.5 * math.log10(2) + 0.5 * math.log10(3))
    assert table.knows(unit_ids(np.arange(4))).tolist() == [True, True, True, False]


def test_ngram_without_its_beginning_is_refused() -> None:
    zeros = np.zeros(1, dtype=np.float32)
    grams = [Grams(np.full((1, order), 3), zeros, zeros) for order in (1, 2, 3)]
    grams[1] = Grams(np.array([[3, 4]]), zeros, zeros)
    with pytest.raises(UserError, match=r"3-grams without their first 2 units.*build_binary"):
        build_table(grams, 2, -6.5)


ARPA = """\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-99\t<s>\t-0.5
-1\t</s>
-0.5\tfever\t-0.25
-2\t<unk>

\\2-grams:
-0.125\t<s> fever
-0.0625\tfever </s>

\\end\\
"""


@pytest.mark.parametrize("text", [ARPA, ARPA.replace("\n", "\r\n")])
def test_arpa_is_read_as_written(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.arpa").write_bytes(text.encode())
    names, grams = read_arpa(tmp_path / "a.arpa")
    assert names == ["fever"]
    assert grams[0].ids[:, 0].tolist() == [0, 1, 3, 2]
    assert grams[0].log10.tolist() == [-99, -1, -0.5, -2]
    assert grams[0].backoff.tolist() == [-0.5, 0, -0.25, 0]
    assert grams[1].ids.tolist() == [[0, 3], [3, 1]]
    assert grams[1].backoff.tolist() == [0, 0]


def test_only_the_units_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.arpa").write_text(ARPA)
    names, grams = read_arpa(tmp_path / "a.arpa", ["1", "2"])
    assert names == ["1", "2"]
    assert grams[0].ids[:, 0].tolist() == [0, 1, 2]
    assert len(grams[1].ids) == 0


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"no model",
        ARPA.replace("-0.5\tfever", "x\tfever").encode(),
        ARPA.replace("<s> fever", "fever").encode(),
    ],
)
def test_unreadable_arpa_is_one_clear_line(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.arpa").write_bytes(content)
    with pytest.raises(UserError, match=r"^curation\.quality\.model: cannot read .*a\.arpa"):
        read_arpa(tmp_path / "a.arpa")
