"""When to measure, and that the measured loss is the plain one for any number of workers."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from pipelines.store import TokenStore
from tests.helpers.runs import TINY
from training.config import EvaluationConfig, ModelConfig
from training.evaluation import HeldOut, evaluation_steps
from training.feed import document_positions
from training.model import build_model


def test_geometric_then_even() -> None:
    assert evaluation_steps(100, 5) == [0, 1, 2, 4, 8, 16, 20, 40, 60, 80, 100]
    assert evaluation_steps(1000, 10) == [0, 1, 2, 4, 8, 16, 32, 64, *range(100, 1001, 100)]


@pytest.mark.parametrize(("steps", "points", "expected"), [(1, 30, [0, 1]), (2, 1, [0, 1, 2]), (3, 30, [0, 1, 2, 3])])
def test_short_runs(steps: int, points: int, expected: list[int]) -> None:
    assert evaluation_steps(steps, points) == expected


@given(st.integers(1, 100_000), st.integers(1, 200))
def test_base_and_end_are_measured_and_the_number_is_bounded(steps: int, points: int) -> None:
    chosen = evaluation_steps(steps, points)
    assert (chosen[0], chosen[-1]) == (0, steps)
    assert chosen == sorted(set(chosen))
    assert len(chosen) <= 2 * points + math.log2(steps) + 3
    even = max(1, steps // points)
    assert max(b - a for a, b in pairwise(chosen)) <= even + even // 2 + 1


@pytest.fixture(scope="module")
def model(store: TokenStore) -> torch.nn.Module:
    config = ModelConfig(init="random", architecture=TINY)
    return build_model(config, vocabulary=300, end_of_document=0, seed=1, checkpointing=False)


def measure(store: TokenStore, model: torch.nn.Module, micro_batch: int = 4, **config: Any) -> dict[str, float]:
    held_out = HeldOut(store, EvaluationConfig(**config), length=64, micro_batch=micro_batch)
    return held_out.measure(model, rank=0, world=1, device=torch.device("cpu"))


def test_loss_is_that_of_transformers_on_the_same_windows(store: TokenStore, model: torch.nn.Module) -> None:
    metrics = measure(store, model, sequences=7)
    for name in ("med", "wiki"):
        joined = torch.stack([torch.from_numpy(store.window(name, i, 64, "heldout")) for i in range(7)])
        with torch.no_grad():
            expected = model(input_ids=joined, labels=joined).loss.item()
        assert metrics[f"heldout/{name}/loss"] == pytest.approx(expected, rel=1e-6)
        # The helper's documents have four bytes a token.
        assert metrics[f"heldout/{name}/bits_per_byte"] == pytest.approx(expected / math.log(2) / 4, rel=1e-6)


@pytest.mark.parametrize("documents", [False, True])
def test_a_source_with_targets_is_measured_on_them(
    store: TokenStore, instructions: TokenStore, model: torch.nn.Module, documents: bool
) -> None:
    config = EvaluationConfig(sequences=7)
    plain, masked = (
        HeldOut(one, config, length=64, micro_batch=4, documents=documents).measure(
            model, rank=0, world=1, device=torch.device("cpu")
        )
        for one in (store, instructions)
    )
    indices = np.arange(7)
    tokens = torch.from_numpy(instructions.windows("med", indices, 64, "heldout"))
    targets = torch.from_numpy(instructions.targets("med", indices, 64, "heldout"))
    positions = torch.from_numpy(document_positions(instructions, "med", indices, 64, "heldout"))
    with torch.no_grad():
        logits = model(input_ids=tokens, **({"position_ids": positions} if documents else {})).logits
    expected = functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), tokens.masked_fill(~targets, -100)[:, 1:]
    ).item()
    assert masked["heldout/med/loss"] == pytest.approx(expected, rel=1e-6)
    assert masked["heldout/med/bits_per_byte"] == pytest.approx(expected / math.log(2) / 4, rel=1e-6)
    assert masked["heldout/med/loss"] != pytest.approx(plain["heldout/med/loss"], rel=1e-4)
    assert masked["heldout/wiki/loss"] == plain["heldout/wiki/loss"]  # the same documents without a mask


def test_masking_documents_is_seen(store: TokenStore, model: torch.nn.Module) -> None:
    apart = HeldOut(store, EvaluationConfig(sequences=7), length=64, micro_batch=4, documents=True)
    measured = apart.measure(model, rank=0, world=1, device=torch.device("cpu"))
    assert measured["heldout/med/loss"] != pytest.approx(
        measure(store, model, sequences=7)["heldout/med/loss"], rel=1e-6
    )


@pytest.mark.usefixtures("no_targets")
def test_a_source_whose_windows_hold_no_target_is_left_out(instructions: TokenStore) -> None:
    assert set(HeldOut(instructions, EvaluationConfig(), length=64, micro_batch=1).windows) == {"wiki"}


@pytest.mark.parametrize("micro_batch", [1, 3, 64])
def test_micro_batches_do_not_matter(store: TokenStore, model: torch.nn.Module, micro_batch: int) -> None:
    assert measure(store, model, micro_batch) == pytest.approx(measure(store, model), rel=1e-6)


@pytest.mark.parametrize("world", [2, 3, 5, 40])
def test_the_parts_of_all_ranks_make_the_whole(
    store: TokenStore, model: torch.nn.Module, world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    totals: list[float] = []
    monkeypatch.setattr("training.evaluation.dist.all_reduce", lambda total: totals.append(float(total)))
    held_out = HeldOut(store, EvaluationConfig(sequences=7, sources=("med",)), length=64, micro_batch=2)
    forwards, calls = [], []
    handle = model.register_forward_pre_hook(lambda *_: calls.append(1))
    for rank in range(world):
        calls.clear()
        held_out.measure(model, rank=rank, world=world, device=torch.device("cpu"))
        forwards.append(len(calls))
    handle.remove()
    assert len(set(forwards)) == 1  # else ZeRO-3 would wait for ever
    whole = measure(store, model, sequences=7)["heldout/med/loss"]
    assert sum(totals) / (7 * 63) == pytest.approx(whole, rel=1e-6)


def test_the_model_goes_on_training(store: TokenStore, model: torch.nn.Module) -> None:
    model.train()
    measure(store, model, sequences=1)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_sources_and_sequences_are_as_asked(store: TokenStore) -> None:
    held_out = HeldOut(store, EvaluationConfig(sequences=5, sources=("wiki",)), length=64, micro_batch=1)
    assert {name: tuple(windows.tokens.shape) for name, windows in held_out.windows.items()} == {"wiki": (5, 64)}
    everything = HeldOut(store, EvaluationConfig(sequences=1000), length=64, micro_batch=1)
    assert {name: len(windows) for name, windows in everything.windows.items()} == {"med": 31, "wiki": 31}
    assert not HeldOut(store, EvaluationConfig(), length=4000, micro_batch=1).windows
