"""The same global batch, and the same loss of it, for every world size and micro-batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config import MixtureConfig
from pipelines.mix_rows import rows_at
from pipelines.plan import Plan
from pipelines.store import Split, TokenStore
from tests.helpers.ranks import run_ranks
from tests.helpers.runs import TINY, ListReporter, run_tiny, tiny_job
from tests.training.conftest import FEW
from training.config import ModelConfig
from training.feed import Feed, Rows, document_positions
from training.model import build_model, training_loss

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
        assert all(part.tokens.shape == (micro_batch, L) and part.tokens.dtype == torch.int64 for part in own)
        assert all(part.targets is None and part.positions is None for part in own)
        assert len(own) == BATCH // (world * micro_batch)
        parts.extend(part.tokens for part in own)
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
    rows = torch.cat([part.tokens for feed in feeds for part in feed.micro_batches(step)])
    alone = torch.cat([part.tokens for part in Feed(store, plan, rank=0, world=1, micro_batch=1).micro_batches(step)])
    assert (rows == alone).all()


@pytest.mark.parametrize(("world", "micro_batch"), [(5, 1), (64, 2), (1, 7)])
def test_what_does_not_divide_is_refused(store: TokenStore, plan: Plan, world: int, micro_batch: int) -> None:
    with pytest.raises(ValueError, match=f"does not divide by {world} x {micro_batch}"):
        Feed(store, plan, rank=0, world=world, micro_batch=micro_batch)


def masked_plan(store: TokenStore, *, length: int = 64, shares: dict[str, float] | None = None) -> Plan:
    mixture = MixtureConfig(shares=shares or {"med": 0.6, "wiki": 0.4}, epochs=3)
    return Plan(store.sizes, mixture, sequence_length=length, batch_sequences=8, seed=5)


def test_without_a_mask_or_masking_there_are_only_tokens(store: TokenStore, plan: Plan) -> None:
    feed = Feed(store, plan, rank=0, world=1, micro_batch=BATCH)
    (rows,) = feed.micro_batches(0)
    assert rows.targets is None
    assert rows.positions is None
    assert feed.target_weight(0) is None
    assert rows.count_targets() == BATCH * (L - 1)


def test_a_source_outside_the_plan_brings_no_mask(instructions: TokenStore) -> None:
    sizes = {name: size for name, size in instructions.sizes.items() if name == "wiki"}
    alone = Plan(
        sizes, MixtureConfig(shares={"wiki": 1.0}, subset_tokens=4000), sequence_length=L, batch_sequences=8, seed=5
    )
    feed = Feed(instructions, alone, rank=0, world=1, micro_batch=8)
    assert next(feed.micro_batches(0)).targets is None
    assert feed.target_weight(0) is None


@given(
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 2]),
    st.integers(0, 20),
    st.sampled_from([8, 33, 200]),
    st.booleans(),
)
def test_rows_equal_those_of_the_dataset(
    instructions: TokenStore, world: int, micro_batch: int, step: int, length: int, documents: bool
) -> None:
    """Tokens, targets and document starts as ``pipelines.mix_rows`` (and through it the Ray Dataset) gives them."""
    plan = masked_plan(instructions, length=length)
    step %= plan.steps
    table = rows_at(instructions, plan, np.arange(step * 8, (step + 1) * 8))
    parts = [
        part
        for rank in range(world)
        for part in Feed(
            instructions, plan, rank=rank, world=world, micro_batch=micro_batch, documents=documents
        ).micro_batches(step)
    ]
    assert all(len(part) == micro_batch for part in parts)
    assert torch.cat([part.tokens for part in parts]).tolist() == table.column("tokens").to_pylist()
    assert torch.cat([part.targets for part in parts if part.targets is not None]).tolist() == (
        table.column("targets").to_pylist()
    )
    if documents:
        positions = torch.cat([part.positions for part in parts if part.positions is not None]).tolist()
        for row, starts in zip(positions, table.column("document_starts").to_pylist(), strict=True):
            assert row == plain_positions(starts, length)
    else:
        assert all(part.positions is None for part in parts)


def plain_positions(starts: list[int], length: int) -> list[int]:
    positions, current = [], 0
    for index in range(length):
        current = 0 if index in starts or index == 0 else current + 1
        positions.append(current)
    return positions


def test_positions_count_from_the_start_of_the_document(store: TokenStore) -> None:
    found = document_positions(store, "med", np.array([0, 3]), 500)
    for row, index in zip(found, (0, 3), strict=True):
        ends = np.flatnonzero(store.window("med", index, 500) == 0)  # the helper's documents end with 0, and only there
        assert len(ends) > 3
        assert row.tolist() == plain_positions((ends + 1).tolist(), 500)


def loss_and_gradients(
    store: TokenStore, plan: Plan, step: int, world: int, micro_batch: int, *, documents: bool = False
) -> tuple[float, torch.Tensor]:
    """What DeepSpeed makes of the parts: a loss divided by a rank's micro-batches, gradients averaged over ranks."""
    config = ModelConfig(init="random", architecture=TINY)
    model = build_model(config, vocabulary=300, end_of_document=0, seed=1, checkpointing=False).double()
    loss = 0.0
    for rank in range(world):
        feed = Feed(store, plan, rank=rank, world=world, micro_batch=micro_batch, documents=documents)
        parts = list(feed.micro_batches(step))
        for part in parts:
            one = training_loss(model, part, feed.target_weight(step))
            (one / len(parts) / world).backward()
            loss += one.item() / len(parts) / world
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return loss, torch.cat(gradients)


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize(("world", "micro_batch"), [(1, 1), (1, 4), (2, 1), (2, 4), (8, 1)])
def test_loss_and_gradients_are_those_of_the_whole_batch(
    instructions: TokenStore, world: int, micro_batch: int, documents: bool
) -> None:
    plan = masked_plan(instructions)
    (whole,) = Feed(instructions, plan, rank=0, world=1, micro_batch=8, documents=documents).micro_batches(3)
    config = ModelConfig(init="random", architecture=TINY)
    model = build_model(config, vocabulary=300, end_of_document=0, seed=1, checkpointing=False).double()
    kwargs = {} if whole.positions is None else {"position_ids": whole.positions}
    logits = model(input_ids=whole.tokens, **kwargs).logits.float()
    assert whole.targets is not None
    labels = whole.tokens.masked_fill(~whole.targets, -100)[:, 1:]
    expected = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), labels)  # the mean over all targets
    expected.backward()
    loss, gradients = loss_and_gradients(instructions, plan, 3, world, micro_batch, documents=documents)
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    wanted = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert torch.allclose(gradients, wanted, rtol=1e-6, atol=1e-7)


def test_the_mean_of_means_would_be_another_loss(instructions: TokenStore) -> None:
    """The batch of the tests above tells the two apart."""
    plan = masked_plan(instructions)
    counts = [
        part.count_targets() for part in Feed(instructions, plan, rank=0, world=1, micro_batch=1).micro_batches(3)
    ]
    assert max(counts) > 2 * min(counts)


def test_the_weight_is_that_of_every_rank(instructions: TokenStore) -> None:
    plan = masked_plan(instructions)
    for step in range(6):
        feeds = [Feed(instructions, plan, rank=rank, world=4, micro_batch=2) for rank in range(4)]
        count = sum(part.count_targets() for feed in feeds for part in feed.micro_batches(step))
        assert {feed.target_weight(step) for feed in feeds} == {4 / count}


@pytest.mark.usefixtures("no_targets")
def test_a_batch_without_a_target_has_no_loss_and_no_gradient(instructions: TokenStore) -> None:
    plan = masked_plan(instructions, shares={"med": 1.0})
    assert Feed(instructions, plan, rank=0, world=1, micro_batch=4).target_weight(0) == 0.0
    loss, gradients = loss_and_gradients(instructions, plan, 0, 1, 4)
    assert loss == 0.0
    assert (gradients == 0).all()


def test_a_run_goes_through_batches_without_a_target(
    instructions: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TokenStore.targets

    def none_in_train(store: TokenStore, source: str, indices: Any, length: int, split: Split = "train") -> Any:
        return real(store, source, indices, length, split) & (split == "heldout")

    monkeypatch.setattr(TokenStore, "targets", none_in_train)
    only = {"mixture": MixtureConfig(subset_tokens=5 * 512, shares={"med": 1.0})}
    reporter, outcome = run_tiny(instructions, tmp_path, **FEW | only)
    assert outcome.steps == 5
    assert reporter.curve("train/loss") == [0.0] * 5
    assert reporter.curve("train/gradient_norm") == [0.0] * 5
    assert not [name for record in reporter.records for name in record["metrics"] if name.startswith("alarm/")]


def test_the_first_token_of_a_row_is_no_prediction() -> None:
    targets = torch.tensor([[True, False, True], [True, False, False]])
    assert Rows(torch.zeros(2, 3, dtype=torch.int64), targets).count_targets() == 1


TASK = FEW | {"document_masking": True}


def compared(one: ListReporter, records: list[dict[str, Any]]) -> None:
    """The first step to rounding; later ones as close as Adam leaves them."""
    other = ListReporter(records)
    for name in ("train/loss", "train/gradient_norm", "heldout/med/loss", "heldout/wiki/loss"):
        curve = other.curve(name)
        assert curve == pytest.approx(one.curve(name), rel=1e-5 if "loss" in name else 1e-4)
        assert curve[0] == pytest.approx(one.curve(name)[0], rel=1e-6)


@pytest.fixture(scope="module")
def trained(instructions: TokenStore, tmp_path_factory: pytest.TempPathFactory) -> ListReporter:
    return run_tiny(instructions, tmp_path_factory.mktemp("trained"), **TASK)[0]


@pytest.mark.parametrize("micro_batch", [1, 8])
def test_deepspeed_computes_the_same_for_any_micro_batch(
    instructions: TokenStore, trained: ListReporter, tmp_path: Path, micro_batch: int
) -> None:
    compared(trained, run_tiny(instructions, tmp_path, **TASK | {"micro_batch": micro_batch})[0].records)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 3])
def test_two_workers_compute_what_one_does(
    instructions: TokenStore, trained: ListReporter, tmp_path: Path, stage: int
) -> None:
    job = tiny_job(instructions, tmp_path, **TASK | {"zero_stage": stage, "workers": 2, "micro_batch": 2})
    records = run_ranks(job, 2)
    if stage:
        compared(trained, records)
    else:  # DeepSpeed tells no gradient norm
        assert ListReporter(records).curve("train/loss") == pytest.approx(trained.curve("train/loss"), rel=1e-5)
