"""Whoever leaves, cancels or stops the app leaves no traceback in its log."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from app_factories import ROOT

pytestmark = pytest.mark.slow

PATIENCE = 300
LONG = ["keep only the digits", "tiny_lm", 8, 64, 64, 1.0, 0]


class Served:
    """An app in a process of its own, and what it has logged."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log.txt"
        command = [sys.executable, "-m", "app", "--port", "0"]
        environment = {**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=environment
            )

    def wait_for(self, words: str) -> str:
        """The first line that has them."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            found = [line for line in self.log.read_text().splitlines() if words in line]
            if found:
                return found[0]
            time.sleep(0.2)
        raise RuntimeError(f"the app never said {words!r}: {self.log.read_text()[-2_000:]}")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()


def _ask(client: Any, name: str, data: list[Any], session: str) -> str:
    body = {"data": data, "session_hash": session}
    joined = client.post(f"/gradio_api/call/{name}", json=body).raise_for_status()
    return f"/gradio_api/call/{name}/{joined.json()['event_id']}"


def _first(client: Any, path: str, event: str, then: Callable[[], None] | None = None) -> None:
    """Read until an event of that kind, then hang up, or do something and read to the end."""
    with client.stream("GET", path) as stream:
        lines = stream.iter_lines()
        assert f"event: {event}" in lines
        if then is not None:
            then()
            list(lines)


def _break_off(url: str) -> None:
    """Begin an upload, and go."""
    host, _, port = url.split("://")[1].rstrip("/").partition(":")
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 1000\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
    )
    with socket.create_connection((host, int(port))) as line:
        line.sendall(head.encode())


def _leave_and_cancel(client: Any) -> None:
    """One leaves at the first step, as a page does that had shown it was there; one cancels."""
    with client.stream("GET", "/gradio_api/heartbeat/who-leaves"):
        _first(client, _ask(client, "generate_adapters", LONG, "who-leaves"), "generating")
    _first(client, _ask(client, "generate_adapters", LONG, "who-cancels"), "generating")
    _first(client, _ask(client, "cancel_generation", [], "who-cancels"), "complete")


def test_leaving_canceling_and_stopping_leave_no_traceback(served: Served) -> None:
    httpx = pytest.importorskip("httpx")
    url = served.wait_for("lora_gen is at ").split()[3]
    served.wait_for("ready: ")
    _break_off(url)
    with httpx.Client(base_url=url, timeout=PATIENCE) as client:
        _leave_and_cancel(client)
        path = _ask(client, "generate_adapters", LONG, "who-stays")
        with contextlib.suppress(httpx.HTTPError):
            _first(client, path, "generating", served.process.terminate)
    assert served.process.wait(PATIENCE) == 0
    log = served.log.read_text()
    for word in ("Traceback", "Error", "Exception", "terminate called"):
        assert word not in log, log[-4_000:]
    assert not list(served.log.parent.glob("lora_gen_app_*"))
