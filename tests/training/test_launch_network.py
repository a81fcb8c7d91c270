"""The interface that gloo is told."""

from __future__ import annotations

import os
import pickle
import socket

import psutil
import pytest
import ray.util

from training.launch_network import ReachableConfig, choose_interface, interface_of


def test_every_address_of_this_machine_has_its_interface() -> None:
    for name, addresses in psutil.net_if_addrs().items():
        for known in addresses:
            if known.family == socket.AF_INET:
                assert interface_of(known.address) == name
    assert interface_of("127.0.0.1") is not None


@pytest.mark.parametrize("address", ["192.0.2.1", "", "no address"])  # 192.0.2.0/24 belongs to nobody (RFC 5737)
def test_an_address_of_another_machine_has_none(address: str) -> None:
    assert interface_of(address) is None


def test_the_administrators_choice_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    choose_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "ib0"
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    choose_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == interface_of("127.0.0.1")


def test_workers_of_gloo_are_told_and_those_of_nccl_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    class Workers:
        def execute(self, function: object) -> None:
            told.append(function)

    backend = ReachableConfig(backend="gloo").backend_cls
    monkeypatch.setattr(backend.__mro__[1], "on_start", lambda *_: told.append("the process group"))
    backend().on_start(Workers(), ReachableConfig(backend="gloo"))
    assert told == [choose_interface, "the process group"]
    told.clear()
    backend().on_start(Workers(), ReachableConfig(backend="nccl"))
    assert told == ["the process group"]


def test_it_travels_to_the_controller() -> None:
    sent = pickle.loads(pickle.dumps(ReachableConfig(backend="gloo", timeout_s=7)))
    assert sent.backend_cls is ReachableConfig().backend_cls and sent.timeout_s == 7
