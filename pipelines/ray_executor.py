"""Runs the items of a stage on Ray Data: as many at a time as the cluster has cores, retried when a worker is lost.

Only items and results pass through the object store, a few hundred bytes each; the data go from file to file. Ray Data
cannot go on in the middle of a pipeline after a kill, and its shuffles hold their data in memory; files do neither.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import ray.data

from pipelines.executor import Function, Item, Result, deal

_SCHEMA = pa.schema([("index", pa.int64()), ("result", pa.string())])


class RayExecutor:
    """Runs items as Ray Data tasks of one CPU each; Ray must be up.

    They stay away from nodes with GPUs where there are others: training may need the whole of those, and they cost more.

    Args:
        workers: items at a time; absent: the CPUs of the nodes that take part, on this machine its cores.
        gpu_nodes: use the CPUs of all nodes.
    """

    def __init__(self, workers: int | None = None, *, gpu_nodes: bool = False) -> None:
        nodes = ray.nodes()  # type: ignore[no-untyped-call]  # Ray's own lacks types
        cpus, self._avoided = placement(nodes, gpu_nodes=gpu_nodes)
        self.workers = workers or cpus
        ray.data.DataContext.get_current().enable_progress_bars = False

    def map(self, function: Function, items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
        """Index and result of every item, in the order in which they end."""
        rows = [{"index": index, "item": json.dumps(item)} for index, item in enumerate(items)]
        if not rows:
            return
        name = f"{function.__module__}:{function.__qualname__}"
        tasks = [{"rows": [rows[index] for index in hand]} for hand in deal(len(rows), self.workers)]
        results = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
            partial(_call, name),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=1,
            compute=ray.data.TaskPoolStrategy(size=min(self.workers, len(tasks))),
            label_selector={"ray.io/node-id": f"!in({','.join(self._avoided)})"} if self._avoided else {},
        )
        for row in results.iter_rows():
            yield row["index"], json.loads(row["result"])


def _call(name: str, batch: pa.Table) -> pa.Table:
    module, function = name.split(":")
    call = getattr(importlib.import_module(module), function)
    given = [row for task in batch.column("rows").to_pylist() for row in task]
    rows = [(row["index"], json.dumps(call(json.loads(row["item"])))) for row in given]
    return pa.Table.from_pylist([{"index": index, "result": result} for index, result in rows], schema=_SCHEMA)


def placement(nodes: Sequence[Mapping[str, Any]], *, gpu_nodes: bool) -> tuple[int, list[str]]:
    """CPUs for a curation, and ids of the nodes that it leaves alone.

    Args:
        nodes: as ``ray.nodes()`` tells of them.
        gpu_nodes: leave none alone.
    """
    cpus = {node["NodeID"]: int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]}
    with_gpus = [node["NodeID"] for node in nodes if node["Alive"] and node["Resources"].get("GPU", 0) > 0]
    others = sum(count for node, count in cpus.items() if node not in with_gpus)
    if with_gpus and others and not gpu_nodes:
        return others, with_gpus
    total = max(1, sum(cpus.values()))
    # A local session has logical CPUs beyond the cores, so that drivers and actors never starve each other.
    return min(total, len(os.sched_getaffinity(0))) if len(cpus) == 1 else total, []
