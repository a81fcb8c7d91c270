"""Mixtures on real Ray Data: the feed's rows in order for every rank, the same files for any workers and after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cluster.session import session
from ground.errors import UserError, user_error_in
from pipelines.config import MixtureConfig
from pipelines.dataset import mixture_dataset, rank_batches
from pipelines.mix import read_mixture
from pipelines.mix_rows import rows_at
from pipelines.plan import Plan
from pipelines.store import TokenStore
from tests.helpers.stores import make_store
from training.feed import Feed

pytestmark = pytest.mark.slow

BATCH, L = 24, 16


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    folder = tmp_path_factory.mktemp("store")
    return make_store(folder, {"med": ("domain", 9000), "wiki": ("general", 5000)}, shard_tokens=1000)


def make_plan(store: TokenStore) -> Plan:
    mixture = MixtureConfig(shares={"med": 0.7, "wiki": 0.3}, epochs=2)
    return Plan(store.sizes, mixture, sequence_length=L, batch_sequences=BATCH, seed=3)


@pytest.fixture(scope="module")
def plan(store: TokenStore) -> Plan:
    return make_plan(store)


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    with session(cpus=3):
        yield


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks even of so few rows, so that their order is tried."""
    monkeypatch.setattr("pipelines.dataset._BLOCK_TOKENS", 2 * BATCH * L)


@pytest.mark.parametrize(("start", "steps"), [(0, None), (13, None), (5, 20)])
def test_rows_come_in_training_order(
    ray_session: None, store: TokenStore, plan: Plan, start: int, steps: int | None
) -> None:
    dataset = mixture_dataset(store, plan, start_step=start, steps=steps)
    rows = dataset.take_all()
    end = plan.steps if steps is None else start + steps
    expected = rows_at(store, plan, np.arange(start * BATCH, end * BATCH))
    assert [row["position"] for row in rows] == expected.column("position").to_pylist()
    assert [list(row["tokens"]) for row in rows] == expected.column("tokens").to_pylist()
    assert [row["source"] for row in rows] == expected.column("source").to_pylist()
    assert [list(row["document_starts"]) for row in rows] == expected.column("document_starts").to_pylist()


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_see_what_the_feed_gives_them(ray_session: None, store: TokenStore, plan: Plan, world: int) -> None:
    start = 9
    for rank in range(world):
        feed = Feed(store, plan, rank=rank, world=world, micro_batch=1)
        step = start
        for batch in rank_batches(store, plan, rank=rank, world=world, start_step=start):
            expected = torch.cat([part.tokens for part in feed.micro_batches(step)])
            assert batch["tokens"].dtype == np.int32
            assert (torch.from_numpy(batch["tokens"]).long() == expected).all()
            assert batch["step"].tolist() == [step] * (BATCH // world)
            step += 1
        assert step == plan.steps


def test_another_store_at_the_place_is_refused(ray_session: None, plan: Plan, tmp_path: Path) -> None:
    store = make_store(tmp_path, {"med": ("domain", 9000), "wiki": ("general", 5000)}, shard_tokens=1000)
    dataset = mixture_dataset(store, plan)
    make_store(tmp_path, {"med": ("domain", 9001), "wiki": ("general", 5000)}, shard_tokens=1000)
    with pytest.raises(Exception, match="has changed while it was read") as caught:
        dataset.take_all()
    assert user_error_in(caught.value) is not None


@pytest.mark.parametrize(("rank", "world"), [(0, 5), (2, 2), (-1, 2)])
def test_a_rank_without_a_part_is_refused(store: TokenStore, plan: Plan, rank: int, world: int) -> None:
    with pytest.raises(ValueError, match="has no part of a batch of 24"):
        mixture_dataset(store, plan, rank=rank, world=world)


def test_steps_outside_the_run_are_refused(store: TokenStore, plan: Plan) -> None:
    with pytest.raises(UserError, match="--from-step"):
        mixture_dataset(store, plan, start_step=plan.steps)


MIX = """
    import sys, time
    from pathlib import Path
    from cluster.session import session
    from pipelines.mix import mix_settings, write_mixture
    from pipelines.ray_executor import RayExecutor
    from pipelines.store import TokenStore
    from tests.pipelines.test_dataset import BATCH, L, make_plan
    path, to, cpus, slowly = sys.argv[1:]
    store = TokenStore.open(path)
    settings = mix_settings(store, make_plan(store), format="parquet", part_tokens=2 * BATCH * L)
    with session(cpus=int(cpus) + 1):
        said = lambda there, parts: print(there, flush=True) or time.sleep(float(slowly))
        write_mixture(store, settings, Path(to), RayExecutor(int(cpus)), said)
"""


def mix_in_new_process(store: TokenStore, to: Path, cpus: int, slowly: float = 0) -> subprocess.Popen[str]:
    arguments = [str(store.path), str(to), str(cpus), str(slowly)]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(MIX), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finished(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]


def content(folder: Path) -> dict[str, Any]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_are_the_same_for_any_workers_and_after_a_kill(store: TokenStore, tmp_path: Path) -> None:
    finished(mix_in_new_process(store, tmp_path / "one", 1))
    process = mix_in_new_process(store, tmp_path / "two", 2, slowly=0.05)
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(2)  # Ray's processes notice that their driver is gone
    assert any((tmp_path / "two" / ".done").iterdir())
    assert not (tmp_path / "two" / "COMPLETE").exists()
    finished(mix_in_new_process(store, tmp_path / "two", 2))
    assert content(tmp_path / "one") == content(tmp_path / "two")
    read_mixture(tmp_path / "two", verify=True)
