"""The scripts of a node: from the cloud's notice to Ray's drain."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.deploy.definitions import DEPLOY
from tests.soak.nodes import Node, cluster

DRAIN = DEPLOY / "node/drain-node.sh"
NODE = "0123456789abcdef" * 3 + "01234567"


class Metadata:
    """A cloud's metadata service: polite to those who bring the right header, and some questions long silent."""

    def __init__(self, quiet: int) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                good = self.path == "/latest/api/token" and "X-aws-ec2-metadata-token-ttl-seconds" in self.headers
                self._answer(200 if good else 400, "secret-token")

            def do_GET(self) -> None:
                outer.asked.append(self.path)
                late = len(outer.asked) > quiet
                if self.path == "/latest/meta-data/spot/instance-action":
                    if self.headers.get("X-aws-ec2-metadata-token") != "secret-token":
                        self._answer(401, "")
                    else:
                        self._answer(200 if late else 404, '{"action": "terminate"}')
                elif self.headers.get("Metadata-Flavor") == "Google":
                    self._answer(200, "TRUE" if late else "FALSE")
                else:
                    self._answer(403, "")

            def _answer(self, code: int, body: str) -> None:
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    service = Metadata(quiet=2)
    thread = threading.Thread(target=service.server.serve_forever, daemon=True)
    thread.start()
    yield service
    service.server.shutdown()
    service.server.server_close()


@pytest.mark.parametrize(("cloud", "seconds"), [("aws", "100"), ("gcp", "20")])
def test_a_notice_of_the_cloud_drains_the_node(tmp_path: Path, metadata: Metadata, cloud: str, seconds: str) -> None:
    shutil.copy(DEPLOY / "node/watch-preemption.sh", tmp_path)
    stub = tmp_path / "drain-node.sh"
    stub.write_text('#!/bin/sh\necho "drained in $1"\n')
    stub.chmod(0o755)
    done = subprocess.run(
        [str(tmp_path / "watch-preemption.sh"), cloud],
        env=os.environ | {"METADATA_URL": metadata.url, "POLL_SECONDS": "0.05", "no_proxy": "*"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.endswith(f"drained in {seconds}\n")
    assert len(metadata.asked) == 3, "it must wait for the notice"
    assert "secret-token" not in done.stdout + done.stderr


def test_an_unknown_cloud_is_refused() -> None:
    done = subprocess.run(
        [str(DEPLOY / "node/watch-preemption.sh"), "azure"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "neither aws nor gcp" in done.stderr


def drain(tmp_path: Path, *arguments: str, code: int = 0) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the script with a `ray` that only writes down what it was asked, and a raylet that ends with it."""
    stub = tmp_path / "ray"
    stub.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/asked\nrm -rf {tmp_path}/proc/7\nexit {code}\n')
    stub.chmod(0o755)
    done = subprocess.run(
        [str(DRAIN), *arguments],
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PROC": str(tmp_path / "proc"),
            "RAY_ADDRESS": "head.example:6379",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    asked = tmp_path / "asked"
    return done, asked.read_text().splitlines() if asked.exists() else []


def raylet(tmp_path: Path) -> None:
    """A process table with one raylet in it."""
    for number, words in ((3, ["bash"]), (7, ["/ray/raylet", f"--node_id={NODE}", "--head"])):
        (tmp_path / "proc" / str(number)).mkdir(parents=True)
        (tmp_path / "proc" / str(number) / "cmdline").write_bytes("\0".join([*words, ""]).encode())


def test_the_raylet_of_the_machine_is_drained(tmp_path: Path) -> None:
    raylet(tmp_path)
    done, asked = drain(tmp_path, "40")
    assert done.returncode == 0, done.stderr
    assert asked[:5] == ["drain-node", "--address", "head.example:6379", "--node-id", NODE]
    assert asked[asked.index("--reason") + 1] == "DRAIN_NODE_REASON_PREEMPTION", (
        "only this one makes Ray Train tell the workers"
    )
    assert asked[asked.index("--deadline-remaining-seconds") + 1] == "40"


def test_a_machine_without_ray_is_drained_already(tmp_path: Path) -> None:
    done, asked = drain(tmp_path)
    assert (done.returncode, asked) == (0, [])
    assert "no Ray" in done.stdout


def test_a_refusal_of_ray_is_an_error(tmp_path: Path) -> None:
    raylet(tmp_path)
    done, _ = drain(tmp_path, "40", code=3)
    assert done.returncode == 3


@pytest.mark.long
def test_ray_itself_drains_the_node() -> None:
    with cluster(workers=1) as ray_cluster:
        (worker,) = ray_cluster.nodes
        before = time.monotonic()
        done = subprocess.run(
            [str(DRAIN), "90", node_id(worker)],
            env=ray_cluster.environment | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not worker.processes("raylet"), "an idle node that drains ends by itself"
        assert time.monotonic() - before < 85, "it waited although the node was gone"


def node_id(node: Node) -> str:
    for process in node.processes():
        for word in process.cmdline():
            if word.startswith("--node_id="):
                return word.removeprefix("--node_id=")
    raise AssertionError("no raylet")
