"""Which nodes a curation uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.ray_executor import placement

CORES = len(os.sched_getaffinity(0))


def node(name: str, cpus: float, gpus: float = 0, *, alive: bool = True) -> dict[str, Any]:
    resources = {"CPU": cpus, "memory": 1e9} | ({"GPU": gpus} if gpus else {})
    return {"NodeID": name, "Alive": alive, "Resources": {name: value for name, value in resources.items() if value}}


@pytest.mark.parametrize(
    ("nodes", "cpus", "avoided"),
    [
        ([node("here", CORES + 2)], CORES, []),  # a local session
        ([node("here", 1)], 1, []),
        ([node("here", CORES + 2, 8)], CORES, []),  # one machine with GPUs does it all
        ([node("head", 0), node("a", 30), node("b", 30)], 60, []),
        ([node("head", 0), node("a", 30), node("g", 96, 8), node("h", 96, 8)], 30, ["g", "h"]),
        ([node("head", 0), node("g", 96, 8), node("h", 96, 8)], 192, []),  # nothing else is there
        ([node("a", 30), node("lost", 30, alive=False), node("g", 96, 8, alive=False), node("b", 2)], 32, []),
        ([node("head", 0), node("g", 0, 8)], 1, []),
    ],
)
def test_nodes_with_gpus_are_left_alone_where_there_are_others(
    nodes: list[dict[str, Any]], cpus: int, avoided: list[str]
) -> None:
    assert placement(nodes, gpu_nodes=False) == (cpus, avoided)


def test_all_nodes_take_part_if_asked() -> None:
    nodes = [node("head", 4), node("g", 96, 8), node("h", 96, 8)]
    assert placement(nodes, gpu_nodes=True) == (196, [])


@given(st.lists(st.tuples(st.integers(0, 64), st.integers(0, 8), st.booleans()), min_size=1, max_size=8), st.booleans())
def test_there_are_always_cpus_and_never_more_than_on_the_nodes_used(
    found: list[tuple[int, int, bool]], gpu_nodes: bool
) -> None:
    nodes = [node(str(i), cpus, gpus, alive=alive) for i, (cpus, gpus, alive) in enumerate(found)]
    cpus, avoided = placement(nodes, gpu_nodes=gpu_nodes)
    used = sum(n["Resources"].get("CPU", 0) for n in nodes if n["Alive"] and n["NodeID"] not in avoided)
    assert 1 <= cpus <= max(1, used)


_PROGRAM = """
import json, sys
import ray
from pipelines.ray_executor import RayExecutor
from tests.pipelines.test_ray_executor import where
ray.init()
executor = RayExecutor()
found = {result["node"] for _, result in executor.map(where, [{"number": i} for i in range(12)])}
gpus = [node["NodeID"] for node in ray.nodes() if node["Resources"].get("GPU")]
print(json.dumps({"workers": executor.workers, "used": sorted(found), "gpus": gpus}))
"""


def where(_: dict[str, Any]) -> dict[str, Any]:
    """An item that takes a moment and tells its node."""
    import time

    import ray

    time.sleep(0.3)
    return {"node": ray.get_runtime_context().get_node_id()}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_cluster_curates_on_its_nodes_without_gpus() -> None:
    from tests.soak.nodes import cluster

    with cluster(1) as nodes:
        nodes.add("--num-cpus=4", "--num-gpus=2")
        environment = nodes.environment | {"PYTHONPATH": str(Path.cwd())}
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["workers"] == 1 and len(told["gpus"]) == 1
    assert len(told["used"]) == 1 and told["used"] != told["gpus"]
