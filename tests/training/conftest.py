"""One store and one undisturbed run for the whole room."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.config import MixtureConfig, Role
from pipelines.store import TokenStore
from tests.helpers.runs import ListReporter, run_tiny
from tests.helpers.stores import make_store
from training.job import Outcome

STEPS = 20
# 20 steps of 8 sequences, checkpoints after 8 and 16.
SHORT: dict[str, Any] = {
    "mixture": MixtureConfig(subset_tokens=STEPS * 512, shares={"med": 0.6, "wiki": 0.4}),
    "checkpoint_tokens": 8 * 512,
}
# 5 steps, for comparisons.
FEW = SHORT | {"mixture": MixtureConfig(subset_tokens=5 * 512, shares={"med": 0.6, "wiki": 0.4})}


@dataclass(frozen=True)
class Finished:
    """What a run left."""

    folder: Path
    reporter: ListReporter
    outcome: Outcome


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    sources: dict[str, tuple[Role, int]] = {"med": ("domain", 30_000), "wiki": ("general", 10_000)}
    return make_store(tmp_path_factory.mktemp("room") / "store", sources)


@pytest.fixture(scope="session")
def instructions(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """The same documents, those of ``med`` with a target mask."""
    sources: dict[str, tuple[Role, int]] = {"med": ("domain", 30_000), "wiki": ("general", 10_000)}
    return make_store(tmp_path_factory.mktemp("room") / "instructions", sources, masked=("med",))


@pytest.fixture(scope="session")
def finished(store: TokenStore, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The short run at ZeRO 1, never disturbed."""
    folder = tmp_path_factory.mktemp("finished")
    return Finished(folder, *run_tiny(store, folder, **SHORT))


@pytest.fixture(scope="session")
def few(store: TokenStore, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The first 5 steps as a run of their own, at ZeRO 1 in fp32."""
    folder = tmp_path_factory.mktemp("few")
    return Finished(folder, *run_tiny(store, folder, **FEW))


@pytest.fixture
def no_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks of which no token is a target."""
    monkeypatch.setattr(
        TokenStore,
        "targets",
        lambda _store, _source, indices, length, *_: np.zeros((len(indices), length), dtype=np.bool_),
    )
