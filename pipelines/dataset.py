"""A mixture as a Ray Dataset, for users who bring their own training loop."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
from numpy.typing import NDArray

from ground.errors import UserError
from pipelines.mix_rows import checked_steps, chunks
from pipelines.plan import Plan
from pipelines.store import TokenStore
from pipelines.store_cache import StoreCache
from pipelines.store_remote import open_store

_BLOCK_TOKENS = 1 << 22  # 16 MiB of token ids: many times a task's overhead, and a few of them fit any object store


def mixture_dataset(
    store: TokenStore,
    plan: Plan,
    *,
    start_step: int = 0,
    steps: int | None = None,
    rank: int = 0,
    world: int = 1,
) -> ray.data.Dataset:
    """The rows that training sees, in training order, from any step on; computed as they are read.

    Equal, row for row, to what Steady's own feed trains on. Columns as in ``mix_rows.row_schema``; ``tokens`` is int32 of
    length L. The order holds as long as the dataset is read as it is: do not shuffle or repartition it, and do not use
    ``streaming_split``, which gives workers different rows, drops up to ``world - 1`` of them and cannot go on from a
    step. Instead let every worker of a ``TorchTrainer`` read its own rows of each global batch::

        def loop(config):
            context = ray.train.get_context()
            rank, world = context.get_world_rank(), context.get_world_size()
            for batch in rank_batches(store, plan, rank=rank, world=world, start_step=config["start_step"]):
                ids = torch.from_numpy(batch["tokens"]).long()  # [batch_sequences / world, L]
                ...

    The tasks that read the store need CPUs beside those of the training workers.

    Args:
        store: on storage that all nodes share.
        steps: how many; absent: to the end of the run.
        rank, world: keep only this worker's rows of each batch, ``rank * B / world .. (rank + 1) * B / world``.

    Raises:
        UserError: the run has no such steps.
        ValueError: the batch does not divide by ``world``, or there is no such rank.
    """
    chosen = checked_steps(plan, start_step, steps)
    if plan.batch_sequences % world or not 0 <= rank < world:
        raise ValueError(f"rank {rank} of {world} has no part of a batch of {plan.batch_sequences} sequences")
    rows = plan.batch_sequences // world
    steps_per_block = max(1, _BLOCK_TOKENS // (rows * plan.sequence_length))
    blocks = -(-len(chosen) // steps_per_block)
    read = partial(
        _read_block,
        path=store.location,
        cache=store.cache,
        digest=store.digest,
        plan=plan,
        steps=chosen,
        steps_per_block=steps_per_block,
        rows=(rank * rows, (rank + 1) * rows),
    )
    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    with ray.data.DataContext.current(context):
        return ray.data.range(blocks, override_num_blocks=blocks).map_batches(
            read, batch_size=1, batch_format="pyarrow", num_cpus=1
        )


def rank_batches(
    store: TokenStore, plan: Plan, *, rank: int, world: int, start_step: int = 0, steps: int | None = None
) -> Iterator[dict[str, NDArray[Any]]]:
    """This worker's part of each global batch, one step at a time, read ahead by Ray Data.

    Returns:
        For each step a dictionary of columns: ``tokens`` int32 of shape [B / world, L], ``document_starts`` an array of
        int32 arrays, and the others of shape [B / world].

    Raises:
        UserError: the run has no such steps.
        ValueError: the batch does not divide by ``world``, or there is no such rank.
    """
    dataset = mixture_dataset(store, plan, start_step=start_step, steps=steps, rank=rank, world=world)
    for batch in dataset.iter_batches(
        batch_size=plan.batch_sequences // world, batch_format="pyarrow", prefetch_batches=1
    ):
        yield _columns(batch, plan.sequence_length)


def _columns(table: pa.Table, length: int) -> dict[str, NDArray[Any]]:
    columns = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if name in ("tokens", "targets"):
            # A copy: the arrays of a table cannot be written, and torch warns of such.
            columns[name] = np.array(column.flatten().to_numpy(zero_copy_only=False)).reshape(-1, length)
        else:
            columns[name] = column.to_numpy(zero_copy_only=False)
    return columns


def _read_block(
    block: pa.Table,
    *,
    path: str,
    cache: StoreCache | None,
    digest: str,
    plan: Plan,
    steps: range,
    steps_per_block: int,
    rows: tuple[int, int],
) -> Iterator[pa.Table]:
    store = _opened(path, digest, cache)
    for index in block.column("id").to_pylist():
        here = np.array(steps[index * steps_per_block : (index + 1) * steps_per_block], dtype=np.int64)
        positions = here[:, None] * plan.batch_sequences + np.arange(*rows, dtype=np.int64)
        yield from chunks(store, plan, positions.ravel())


@lru_cache(maxsize=2)
def _opened(path: str, digest: str, cache: StoreCache | None) -> TokenStore:
    store = open_store(path, cache)
    if store.digest != digest:
        raise UserError("curation.store", f"{path} has changed while it was read", "start anew")
    return store
