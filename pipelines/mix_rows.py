"""The sequences of a plan as rows of a table, with all that another trainer needs to know of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ground.errors import UserError
from pipelines.plan import Plan
from pipelines.store import TokenStore

_CHUNK_TOKENS = 1 << 20
"""Tokens in memory at a time, about."""


def row_schema(targets: bool) -> pa.Schema:
    """Columns of a row: one sequence of the run.

    ``step`` and ``position`` count from the start of the run; ``sequence`` is the window's number within its source;
    ``document_starts`` are positions within the row, as ``TokenStore.document_starts`` gives them.
    """
    fields = [
        ("step", pa.int64()),
        ("position", pa.int64()),
        ("source", pa.string()),
        ("sequence", pa.int64()),
        ("tokens", pa.list_(pa.int32())),
        ("document_starts", pa.list_(pa.int32())),
    ]
    return pa.schema([*fields, ("targets", pa.list_(pa.bool_()))] if targets else fields)


def rows_at(store: TokenStore, plan: Plan, positions: NDArray[np.int64]) -> pa.Table:
    """Rows of ``row_schema`` at any positions of the run; the target mask is there when a source of the plan has one.

    Args:
        positions: int64 of shape [n], in 0..steps * batch_sequences - 1.
    """
    batch, length = plan.at(positions), plan.sequence_length
    masked = has_targets(store, plan)
    tokens = np.empty((len(positions), length), dtype=np.int32)
    targets = np.empty((len(positions) if masked else 0, length), dtype=np.bool_)
    starts: list[NDArray[np.int32]] = [np.empty(0, dtype=np.int32)] * len(positions)
    for index, name in enumerate(plan.sources):
        mine = np.flatnonzero(batch.source == index)
        if not len(mine):
            continue
        sequence = batch.sequence[mine]
        tokens[mine] = store.windows(name, sequence, length)
        for row, found in zip(mine.tolist(), store.document_starts(name, sequence, length), strict=True):
            starts[row] = found
        if masked:
            targets[mine] = store.targets(name, sequence, length)
    edges = np.arange(len(positions) + 1, dtype=np.int32) * length
    counts = np.cumsum([0, *(len(found) for found in starts)], dtype=np.int32)
    columns = [
        pa.array(positions // plan.batch_sequences),
        pa.array(positions),
        pa.array(plan.sources).take(pa.array(batch.source)),
        pa.array(batch.sequence),
        pa.ListArray.from_arrays(edges, tokens.ravel()),
        pa.ListArray.from_arrays(counts, np.concatenate(starts) if starts else np.empty(0, dtype=np.int32)),
    ]
    if masked:
        columns.append(pa.ListArray.from_arrays(edges, targets.ravel()))
    return pa.Table.from_arrays(columns, schema=row_schema(masked))


def has_targets(store: TokenStore, plan: Plan) -> bool:
    """Whether a source of the plan has a target mask."""
    return any(store.has_targets(name) for name in plan.sources)


def chunks(store: TokenStore, plan: Plan, positions: NDArray[np.int64]) -> Iterator[pa.Table]:
    """The same rows in tables of about a million tokens, so that memory does not grow with their number."""
    size = max(1, _CHUNK_TOKENS // plan.sequence_length)
    for first in range(0, len(positions), size):
        yield rows_at(store, plan, positions[first : first + size])


def checked_steps(plan: Plan, start_step: int, steps: int | None) -> range:
    """The steps ``start_step ..`` of the run, all that are left or the given number.

    Raises:
        UserError: the run has no such steps.
    """
    if not 0 <= start_step < plan.steps:
        raise UserError("--from-step", f"{start_step} is outside the run", f"give 0 to {plan.steps - 1}")
    left = plan.steps - start_step
    if steps is not None and not 1 <= steps <= left:
        raise UserError("--steps", f"{steps} steps from step {start_step} are not in the run", f"give 1 to {left}")
    return range(start_step, start_step + (left if steps is None else steps))
