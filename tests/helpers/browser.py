"""Headless Chromium, driven through chromedriver's own HTTP interface (W3C WebDriver), so that no further package is needed."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DRIVER, CHROMIUM = Path("/usr/bin/chromedriver"), Path("/usr/bin/chromium")
PICTURES = "STEADY_PICTURES"
"""Environment variable: a folder that shall keep a picture of every page, to look at."""


def missing_for_a_browser() -> str | None:
    """Why no browser can be had here, if so."""
    absent = [str(path) for path in (DRIVER, CHROMIUM) if not path.exists()]
    return f"no {' and no '.join(absent)} on this machine" if absent else None


class Browser:
    """One window."""

    def __init__(self, server: str, profile: Path, width: int, height: int) -> None:
        options = (
            "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking --hide-scrollbars"
        )
        sized = [f"--window-size={width},{height}", f"--user-data-dir={profile}"]
        chrome = {"binary": str(CHROMIUM), "args": [*options.split(), *sized]}
        self._at = server
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": chrome}}}
        self._at = f"{server}/session/{self._post('session', wanted)['sessionId']}"

    def open(self, address: str) -> None:
        """Load a page. One that differs in its fragment alone is loaded anew as well."""
        self._post("url", {"url": "about:blank"})
        self._post("url", {"url": address})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns, or its promise."""
        return self._post("execute/sync", {"script": script, "args": list(arguments)})

    def text(self) -> str:
        """All text that the page shows."""
        return str(self.run("return document.body.innerText"))

    def wait_for(self, *texts: str, seconds: float = 180) -> str:
        """Wait until the page shows all of these; the page's text."""
        end = time.monotonic() + seconds
        while not all(text in (shown := self.text()) for text in texts):
            absent = [text for text in texts if text not in shown]
            assert time.monotonic() < end, f"the page does not show {absent}; it shows {shown[:3000]!r}"
            time.sleep(0.3)
        return shown

    def wait_until(self, script: str, seconds: float = 180) -> None:
        """Wait until a script returns something true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"{script} never holds"
            time.sleep(0.3)

    def picture(self, name: str) -> None:
        """Keep a picture of what can be seen, where that is asked for."""
        if folder := os.environ.get(PICTURES):
            Path(folder).mkdir(parents=True, exist_ok=True)
            png = base64.b64decode(self._request("screenshot", None))
            (Path(folder) / f"{name}.png").write_bytes(png)

    def close(self) -> None:
        """End the window and its processes."""
        with urllib.request.urlopen(urllib.request.Request(self._at, method="DELETE"), timeout=60):
            pass

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._request(path, json.dumps(body).encode())

    def _request(self, path: str, body: bytes | None) -> Any:
        request = urllib.request.Request(f"{self._at}/{path}", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]


def look_at_a_job(profile: Path, dashboard: str, token: str, job: str, *texts: str) -> None:
    """Open the page of a job on Ray's dashboard as its user would, who is asked for the token, and wait for ``texts``."""
    enter = "return fetch('/api/authenticate', {method: 'POST', headers: {Authorization: 'Bearer ' + arguments[0]}})"
    with browser(profile, width=1500, height=900) as window:
        window.open(dashboard)
        window.wait_for("oken")  # "Token" or "token"
        assert window.run(f"{enter}.then(answer => answer.status)", token) == 200
        window.open(f"{dashboard}/#/jobs/{job}")
        window.wait_for(job, *texts)
        window.picture("ray-job")


@contextmanager
def browser(folder: Path, *, width: int = 1440, height: int = 900) -> Iterator[Browser]:
    """A browser with an empty profile below ``folder``; sizes in CSS pixels."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "chromedriver.log", "w") as log:
        driver = subprocess.Popen([str(DRIVER), f"--port={port}"], stdout=log, stderr=log)
    server = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{server}/status", timeout=5):
                    break
            except OSError:
                assert time.monotonic() < end, (folder / "chromedriver.log").read_text()
                time.sleep(0.2)
        window = Browser(server, folder / "profile", width, height)
        try:
            yield window
        finally:
            window.close()
    finally:
        driver.terminate()
        driver.wait(timeout=20)
