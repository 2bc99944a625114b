"""U05, U06 and F14 at the gate around uploads: owners, slow bodies, a bound on their room."""

import asyncio
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from app.guard import JOIN, UPLOAD
from app.temporary import TemporaryRoom, _files
from app.upload_gate import UploadGate, UploadGateConfig

ALICE, BOB = "lora_gen_visitor=" + "a" * 32, "lora_gen_visitor=" + "b" * 32


class Inner:
    """Stands for Gradio: an upload is kept and named, anything else is answered."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            if not message.get("more_body"):
                break
        answer: Any = "served"
        if scope["path"] == UPLOAD:
            self.count += 1
            path = self.folder / "gradio" / f"{self.count:064d}" / "x.zip"
            path.parent.mkdir(parents=True)
            path.write_bytes(body)
            answer = [str(path)]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


def gate(folder: Path, **options: Any) -> UploadGate:
    settings = {key: options.pop(key) for key in ("idle_seconds", "embed") if key in options}
    room = TemporaryRoom(folder, **{"close_oldest": lambda: False, **options})
    return UploadGate(Inner(folder), room=room, config=UploadGateConfig(**settings))


def ask(gate: UploadGate, path: str, body: bytes, *, pause: float = 0, **headers: str) -> Any:
    """(status, headers, JSON) of one POST whose body comes in two parts."""
    sent: list[Any] = []
    half = len(body) // 2
    parts = [(body[:half], True), (body[half:], False)]

    async def receive() -> Any:
        await asyncio.sleep(pause if len(parts) == 1 else 0)
        part, more = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": more}

    async def send(message: Any) -> None:
        sent.append(message)

    named = {"content-length": str(len(body)), **headers}
    scope = {"type": "http", "method": "POST", "path": path, "client": ("127.0.0.1", 1)}
    scope["headers"] = [(name.replace("_", "-").encode(), v.encode()) for name, v in named.items()]
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, gate(scope, receive, send)).result()
    return sent[0]["status"], dict(sent[0]["headers"]), json.loads(sent[1]["body"])


def upload(gate: UploadGate, cookie: str, size: int = 10) -> str:
    status, _, (path,) = ask(gate, UPLOAD, b"x" * size, cookie=cookie)
    assert status == 200
    return str(path)


def use(gate: UploadGate, path: Any, **headers: str) -> int:
    file = {"path": path, "orig_name": "../x", "meta": {"_type": "gradio.FileData"}}
    body = {"data": [[file]], "session_hash": "abcdefgh"}
    return int(ask(gate, JOIN, json.dumps(body).encode(), **headers)[0])


def test_owner_may_use_an_upload(tmp_path: Path) -> None:
    opened = gate(tmp_path)
    assert use(opened, upload(opened, ALICE), cookie=ALICE) == 200


def test_another_visitor_may_not_use_it(tmp_path: Path) -> None:
    opened = gate(tmp_path)
    path = upload(opened, ALICE)
    assert use(opened, path, cookie=BOB) == 403
    assert use(opened, path) == 403


def test_program_without_cookies_uses_its_own(tmp_path: Path) -> None:
    opened = gate(tmp_path)
    status, headers, (path,) = ask(opened, UPLOAD, b"x")
    assert b"HttpOnly; SameSite=Strict" in headers[b"set-cookie"]
    assert (status, use(opened, path)) == (200, 200)
    assert use(opened, path, cookie=ALICE) == 403


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/passwd", "app/guard.py", "http://127.0.0.1:7860/", "file:///etc/passwd", "../x"),
        *("\\\\host\\share\\x", "/proc/self/environ", "x" * 5000, "C:\\x", "\0"),
    ],
)
def test_path_that_nobody_uploaded_is_refused(tmp_path: Path, path: str) -> None:
    opened = gate(tmp_path)
    upload(opened, ALICE)
    assert use(opened, path, cookie=ALICE) == 403


@pytest.mark.parametrize("wrap", [lambda f: {"a": {"b": [f]}}, lambda f: [[[f]]], lambda f: f])
def test_path_is_found_however_deep(tmp_path: Path, wrap: Any) -> None:
    body = json.dumps({"data": wrap({"path": "/etc/passwd"})}).encode()
    assert ask(gate(tmp_path), JOIN, body, cookie=ALICE)[0] == 403


@pytest.mark.parametrize("body", [b"[" * 100_000, b"\xff", b"{"])
def test_request_that_is_no_json_is_refused(tmp_path: Path, body: bytes) -> None:
    assert ask(gate(tmp_path), JOIN, body)[0] == 400


def test_cookie_in_a_frame_of_another_site_is_partitioned(tmp_path: Path) -> None:
    _, headers, _ = ask(gate(tmp_path, embed=True), "/", b"")
    assert b"SameSite=None; Secure; Partitioned" in headers[b"set-cookie"]


def test_body_that_stops_coming_is_given_up(tmp_path: Path) -> None:
    began = time.monotonic()
    slow = gate(tmp_path, idle_seconds=0.1)
    assert ask(slow, UPLOAD, b"x" * 10, pause=30)[0] == 408
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("gone", [True, False])
def test_failure_is_raised_only_while_somebody_is_there(tmp_path: Path, gone: bool) -> None:
    messages = [{"type": "http.request", "body": b""}, {"type": "http.disconnect"}]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(1 + gone):
            await receive()
        raise RuntimeError("response already started")

    async def receive() -> Any:
        return messages.pop(0)

    guarded = gate(tmp_path)
    guarded._app = app
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("::1", 1)}
    with nullcontext() if gone else pytest.raises(RuntimeError), ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, guarded(scope, receive, receive)).result()


def test_refusal_after_the_answer_began_is_one_line_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("response already started") from HTTPException(404)

    async def ignore(message: Any = None) -> None:
        await asyncio.sleep(0)

    guarded = gate(tmp_path)
    guarded._app = app
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("::1", 1)}
    with caplog.at_level("INFO", "lora_gen.app"), ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, guarded(scope, ignore, ignore)).result()
    assert "response already started" in caplog.text


def test_many_ranges_are_refused(tmp_path: Path) -> None:
    ranges = "bytes=" + ",".join(f"{i}-{i}" for i in range(10_000))
    assert ask(gate(tmp_path), "/gradio_api/file=x", b"", range=ranges)[0] == 416


def test_upload_of_unknown_size_is_refused(tmp_path: Path) -> None:
    assert ask(gate(tmp_path), UPLOAD, b"x", content_length="")[0] == 411


def test_ten_thousand_uploads_stay_below_the_quota(tmp_path: Path) -> None:
    room = TemporaryRoom(tmp_path, close_oldest=lambda: False, quota=8_000, young=0)
    most = 0
    for number in range(10_000):
        assert room.make(1_000)
        path = tmp_path / "gradio" / str(number) / "x.zip"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * 1_000)
        most = max(most, room.used() if number % 100 == 0 else 0)
    assert most <= 8_000
    assert len(list((tmp_path / "gradio").iterdir())) <= 8


def test_gate_makes_room_for_each_upload(tmp_path: Path) -> None:
    opened = gate(tmp_path, quota=3_000, young=0)
    for _ in range(12):
        upload(opened, ALICE, 1_000)
    assert TemporaryRoom(tmp_path, close_oldest=lambda: False).used() <= 3_000


def test_young_uploads_stay_and_the_next_one_is_told_to_come_back(tmp_path: Path) -> None:
    opened = gate(tmp_path, quota=1_000)
    path = upload(opened, ALICE, 900)
    status, _, answer = ask(opened, UPLOAD, b"x" * 200, cookie=BOB)
    assert (status, answer["detail"]) == (
        503,
        "The app's temporary room is full. Try again in a few minutes.",
    )
    os.utime(path, (0, 0))
    assert ask(opened, UPLOAD, b"x" * 200, cookie=BOB)[0] == 200
    assert not Path(path).exists()


def test_oldest_sessions_end_when_uploads_alone_do_not_make_room(tmp_path: Path) -> None:
    ended = []
    sessions = [tmp_path / "sessions" / name for name in ("old", "new")]
    for folder in sessions:
        folder.mkdir(parents=True)
        (folder / "x.zip").write_bytes(b"x" * 400)

    def close_oldest() -> bool:
        ended.append(sessions.pop(0))
        (ended[-1] / "x.zip").unlink()
        return True

    room = TemporaryRoom(tmp_path, close_oldest=close_oldest, quota=1_000)
    assert room.make(500)
    assert [folder.name for folder in ended] == ["old"]
    assert not room.make(1_001)


def test_counting_does_not_mind_folders_that_vanish(tmp_path: Path) -> None:
    for number in range(40):
        folder = tmp_path / str(number) / "deep" / "deeper"
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x")
    counted = _files(tmp_path)
    assert next(counted)[2] == 1
    for folder in tmp_path.iterdir():
        shutil.rmtree(folder)
    assert list(counted) == []
