"""How items are dealt to workers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipelines.executor import deal


@given(st.integers(0, 2000), st.integers(1, 64))
def test_every_item_is_dealt_once_and_single_ones_come_last(items: int, workers: int) -> None:
    hands = deal(items, workers)
    assert sorted(index for hand in hands for index in hand) == list(range(items))
    sizes = [len(hand) for hand in hands]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes, default=0) <= 8
    # Whatever is running when the items run out is short.
    assert all(size == 1 for size in sizes[-min(workers, len(sizes)) :])


@given(st.integers(1, 2000), st.integers(1, 64))
def test_the_largest_items_go_to_different_tasks(items: int, workers: int) -> None:
    hands = deal(items, workers)
    assert sorted(hand[0] for hand in hands) == list(range(len(hands)))
