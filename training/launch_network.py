"""Which network interface gloo uses between machines.

By itself gloo takes the address that the machine's own name means to it. Debian and Ubuntu install that as 127.0.1.1, which no
other machine reaches: "Gloo connectFullMesh failed". The address by which Ray knows the node is one that the others reach.
"""

from __future__ import annotations

import os
from typing import Any

import psutil
import ray.util
from ray.train.torch import TorchConfig

_INTERFACE = "GLOO_SOCKET_IFNAME"


class ReachableConfig(TorchConfig):
    """Ray Train's configuration of torch; every worker is told its interface before the process group is made."""

    @property
    def backend_cls(self) -> Any:
        """The class that prepares the workers."""
        return _Reachable


class _Reachable(TorchConfig().backend_cls):  # type: ignore[misc]  # Ray has no public name for it
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Before the workers train."""
        if backend_config.backend == "gloo":
            worker_group.execute(choose_interface)
        super().on_start(worker_group, backend_config)


def choose_interface() -> None:
    """Set it in the environment of this worker, unless the machine's administrator has."""
    interface = interface_of(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
    if interface:
        os.environ.setdefault(_INTERFACE, interface)


def interface_of(address: str) -> str | None:
    """Name of this machine's interface with this IP address; None if it has none."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(known.address.partition("%")[0] == address for known in addresses):
            return str(name)
    return None
