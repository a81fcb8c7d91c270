"""The preview shows the ends and the middle of each source in the order of the ranking."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pipelines.quality.preview import ScoredDocument, excerpt, preview


def _documents(source: str, scores: list[float]) -> list[ScoredDocument]:
    return [ScoredDocument(source, f"id{i}", f"{i:032x}", score, f"text {i}") for i, score in enumerate(scores)]


def test_best_middle_and_worst_of_each_source() -> None:
    documents = _documents("b", [float(i) for i in range(100)]) + _documents("a", [2.0, 1.0, math.inf])
    rows = preview(documents, 6)
    assert [(row.source, row.place, row.rank) for row in rows] == [
        ("a", "best", 1),
        ("a", "middle", 2),
        ("a", "worst", 3),
        ("b", "best", 1),
        ("b", "best", 2),
        ("b", "middle", 50),
        ("b", "middle", 51),
        ("b", "worst", 99),
        ("b", "worst", 100),
    ]
    assert [row.id for row in rows[:3]] == ["id1", "id0", "id2"]
    assert (rows[0].of, rows[-1].of) == (3, 100)


@given(scores=st.lists(st.sampled_from([1.0, 2.0, 3.0, math.inf]), max_size=40), n=st.integers(1, 40), data=st.data())
def test_order_is_total_and_no_document_comes_twice(scores: list[float], n: int, data: st.DataObject) -> None:
    documents = _documents("s", scores)
    rows = preview(documents, n)
    assert rows == preview(data.draw(st.permutations(documents)), n)
    assert [row.rank for row in rows] == sorted({row.rank for row in rows})
    assert len(rows) == min(len(scores), 3 * max(1, n // 3))
    assert all(first.score <= second.score for first, second in pairwise(rows))


def test_excerpt_is_one_line_that_a_terminal_cannot_obey() -> None:
    assert excerpt("  a\n\tb \x1b[31m  c\u202e" + "x" * 500, 20) == "a b \ufffd[31m c\ufffdxxxxxxxx"
