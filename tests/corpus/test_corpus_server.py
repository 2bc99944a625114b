"""U05 and U06 against Gradio's own routes, behind our guards, over real sockets."""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

gradio = pytest.importorskip("gradio")

from app.guard import Guard, GuardConfig, Waiting  # noqa: E402
from app.upload_gate import gate  # noqa: E402

RESPONSIVE = 5.0
"""Seconds for one page while others attack: one on an idle machine, more where tests share it."""

ALICE = {"cookie": "lora_gen_visitor=" + "a" * 32}
BOB = {"cookie": "lora_gen_visitor=" + "b" * 32}
FREE = Waiting(total=0, mine=0, seconds=1)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """(port, the app's folder for everything temporary) of a page that takes a file."""
    from starlette.middleware import Middleware

    work = tmp_path_factory.mktemp("served")
    (work / "gradio").mkdir()
    kept = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(work / "gradio")
    with gradio.Blocks(analytics_enabled=False) as page:
        given, shown = gradio.File(file_count="multiple"), gradio.Textbox()
        given.upload(lambda files: str(len(files)), given, shown, api_name="count")
    guard = GuardConfig(hosts=("127.0.0.1",), requests_per_minute=100_000)
    middleware = [Middleware(Guard, config=guard, waiting=lambda *_: FREE)]
    options: dict[str, Any] = {"app_kwargs": {"middleware": middleware}}
    options = gate(options, work, lambda: False, idle_seconds=1.0)
    options |= {"server_name": "127.0.0.1", "quiet": True, "prevent_thread_lock": True}
    _, url, _ = page.launch(ssr_mode=False, strict_cors=True, max_file_size="1mb", **options)
    try:
        yield int(url.rstrip("/").rsplit(":", 1)[1]), work
    finally:
        page.close(verbose=False)
        os.environ.pop("GRADIO_TEMP_DIR")
        if kept is not None:
            os.environ["GRADIO_TEMP_DIR"] = kept


def ask(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def multipart(files: list[tuple[str, bytes]], extra: str = "") -> tuple[bytes, str]:
    body = b""
    for name, content in files:
        head = f'content-disposition: form-data; name="files"; filename="{name}"\r\n{extra}'
        body += b"--line\r\n" + head.encode() + b"\r\n" + content + b"\r\n"
    return body + b"--line--\r\n", "multipart/form-data; boundary=line"


def upload(port: int, name: str, **headers: str) -> tuple[int, Any]:
    body, kind = multipart([(name, b"content")])
    headers["content-type"] = kind
    status, answer = ask(port, "POST", "/gradio_api/upload", body, **headers)
    return status, json.loads(answer) if status == 200 else answer


def call(port: int, path: str, **headers: str) -> int:
    file = {"path": path, "orig_name": "../../x", "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [[file]], "session_hash": "abcdefgh"}).encode()
    headers["content-type"] = "application/json"
    return ask(port, "POST", "/gradio_api/call/count", body, **headers)[0]


def is_served(port: int) -> None:
    """The page is served, and soon."""
    began = time.monotonic()
    assert ask(port, "GET", "/gradio_api/startup-events")[0] == 200
    assert time.monotonic() - began < RESPONSIVE


def test_own_upload_is_taken_and_that_of_another_is_not(served: tuple[int, Path]) -> None:
    port, _ = served
    status, (path,) = upload(port, "x.zip", **ALICE)
    assert status == 200
    assert call(port, path, **ALICE) == 200
    assert call(port, path, **BOB) == 403


@pytest.mark.parametrize("name", ["../../x.zip", "/etc/x.zip", "..\\..\\x.zip", "a/b.zip"])
def test_name_of_an_upload_leads_nowhere(served: tuple[int, Path], name: str) -> None:
    port, work = served
    status, found = upload(port, name, **ALICE)
    assert status != 200 or Path(found[0]).resolve().is_relative_to(work / "gradio")


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "app/guard.py", "http://127.0.0.1:1/x", "http://[::1]/x", "../../x"]
)
def test_path_that_was_not_uploaded_is_refused(served: tuple[int, Path], path: str) -> None:
    assert call(served[0], path, **ALICE) == 403


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../../../etc/passwd", "app/guard.py", "http://127.0.0.1:1/x"]
)
def test_file_route_gives_nothing_away(served: tuple[int, Path], path: str) -> None:
    status, answer = ask(served[0], "GET", f"/gradio_api/file={path}")
    assert 400 <= status < 600
    assert b"root:" not in answer


def test_post_of_another_site_is_refused(served: tuple[int, Path]) -> None:
    status, _ = upload(served[0], "x.zip", origin="https://evil.example")
    assert status == 403
    is_served(served[0])


def test_host_of_a_rebound_name_is_refused(served: tuple[int, Path]) -> None:
    assert ask(served[0], "GET", "/", host="evil.example")[0] == 421


def test_long_list_of_ranges_is_refused(served: tuple[int, Path]) -> None:
    ranges = "bytes=" + ",".join(f"{i}-{i}" for i in range(5_000))
    assert ask(served[0], "GET", "/theme.css", range=ranges)[0] == 416
    is_served(served[0])


def test_thousand_and_one_files_are_refused(served: tuple[int, Path]) -> None:
    body, kind = multipart([("x", b"")] * 1_001)
    headers = {"content-type": kind}
    assert ask(served[0], "POST", "/gradio_api/upload", body, **headers)[0] == 400
    is_served(served[0])


def test_hundred_thousand_part_headers_are_refused(served: tuple[int, Path]) -> None:
    body, kind = multipart([("x", b"")], extra="a: b\r\n" * 100_000)
    headers = {"content-type": kind}
    assert ask(served[0], "POST", "/gradio_api/upload", body, **headers)[0] in (400, 413)
    is_served(served[0])


def test_large_json_body_is_refused(served: tuple[int, Path]) -> None:
    body = b'{"data": ["' + b"x" * 30_000_000 + b'"]}'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http.client.HTTPConnection, "send", _send_headers_only)
        assert ask(served[0], "POST", "/gradio_api/call/count", body)[0] == 413


def _send_headers_only(connection: http.client.HTTPConnection, data: Any) -> None:
    """A server that answers before the body came may close the line while it is being sent."""
    if connection.sock is None:
        connection.connect()
    assert connection.sock is not None
    connection.sock.sendall(bytes(data)[:4096].partition(b"\r\n\r\n")[0] + b"\r\n\r\n")


def test_upload_that_trickles_is_given_up_and_harms_nobody(served: tuple[int, Path]) -> None:
    port, _ = served
    head = (
        "POST /gradio_api/upload HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1000\r\n"
        "content-type: multipart/form-data; boundary=line\r\n\r\n--line\r\n"
    )
    lines = [socket.create_connection(("127.0.0.1", port), timeout=120) for _ in range(30)]
    try:
        for line in lines:
            line.sendall(head.encode())
        is_served(port)
        assert all(line.recv(100).startswith(b"HTTP/1.1 408") for line in lines)
    finally:
        for line in lines:
            line.close()
