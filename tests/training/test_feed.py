"""The same global batch for every world size and micro-batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config import MixtureConfig
from pipelines.plan import Plan
from pipelines.store import TokenStore
from training.feed import Feed

BATCH, L = 192, 16


@pytest.fixture(scope="module")
def plan(store: TokenStore) -> Plan:
    mixture = MixtureConfig(shares={"med": 0.6, "wiki": 0.4}, epochs=3)
    return Plan(store.sizes, mixture, sequence_length=L, batch_sequences=BATCH, seed=5)


def joined(store: TokenStore, plan: Plan, step: int, world: int, micro_batch: int) -> torch.Tensor:
    """The global batch as the ranks together see it."""
    parts = []
    for rank in range(world):
        own = list(Feed(store, plan, rank=rank, world=world, micro_batch=micro_batch).micro_batches(step))
        assert all(part.shape == (micro_batch, L) and part.dtype == torch.int64 for part in own)
        assert len(own) == BATCH // (world * micro_batch)
        parts.extend(own)
    return torch.cat(parts)


def test_rows_are_the_windows_the_plan_names(store: TokenStore, plan: Plan) -> None:
    batch = plan.batch(3)
    rows = joined(store, plan, 3, 1, BATCH)
    for row, source, sequence in zip(rows, batch.source.tolist(), batch.sequence.tolist(), strict=True):
        assert row.tolist() == store.window(plan.sources[source], sequence, L).tolist()


@pytest.mark.parametrize("world", [world for world in range(1, 65) if BATCH % world == 0])
def test_every_world_size_that_divides_sees_the_same_batch(store: TokenStore, plan: Plan, world: int) -> None:
    whole = joined(store, plan, 7, 1, 1)
    rows = BATCH // world
    for micro_batch in {1, rows, next(m for m in range(rows // 2 or 1, 0, -1) if rows % m == 0)}:
        assert (joined(store, plan, 7, world, micro_batch) == whole).all()


@given(st.integers(1, 64), st.integers(1, 3), st.integers(1, 3), st.integers(0, 5))
def test_every_world_size_to_64_with_a_batch_made_for_it(
    store: TokenStore, world: int, micro_batch: int, accumulation: int, step: int
) -> None:
    size = world * micro_batch * accumulation
    mixture = MixtureConfig(shares={"med": 0.6, "wiki": 0.4}, subset_tokens=20_000, epochs=100, max_repetition=1000)
    plan = Plan(store.sizes, mixture, sequence_length=L, batch_sequences=size, seed=5)
    feeds = [Feed(store, plan, rank=rank, world=world, micro_batch=micro_batch) for rank in range(world)]
    rows = torch.cat([part for feed in feeds for part in feed.micro_batches(step)])
    alone = torch.cat(list(Feed(store, plan, rank=0, world=1, micro_batch=1).micro_batches(step)))
    assert (rows == alone).all()


@pytest.mark.parametrize(("world", "micro_batch"), [(5, 1), (64, 2), (1, 7)])
def test_what_does_not_divide_is_refused(store: TokenStore, plan: Plan, world: int, micro_batch: int) -> None:
    with pytest.raises(ValueError, match=f"does not divide by {world} x {micro_batch}"):
        Feed(store, plan, rank=0, world=world, micro_batch=micro_batch)
