"""What the guard lets in, without Gradio."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.appointments import MAX_AHEAD, RECENT, Appointments, Lately
from app.guard import JOIN, MAX_BODY, Guard, GuardConfig, Waiting

HOSTS = ("127.0.0.1", "localhost")
OPEN = Waiting(total=0, mine=0, seconds=1)


async def _app(scope: Any, receive: Any, send: Any) -> None:
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


def ask(
    guard: Guard, *, body: bytes = b"", headers: dict[str, str] | None = None, **scope: Any
) -> Any:
    """(status, headers, body) of one request; the body comes in two parts."""
    sent: list[Any] = []
    half = len(body) // 2
    parts = [(body[:half], True), (body[half:], False)]

    async def receive() -> Any:
        part, more = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": more}

    async def send(message: Any) -> None:
        sent.append(message)

    named = {"host": "127.0.0.1:7860", **(headers or {})}
    made = {"type": "http", "method": "GET", "path": "/", "client": ("127.0.0.1", 1), **scope}
    made["headers"] = [(name.encode(), value.encode()) for name, value in named.items()]
    with ThreadPoolExecutor(1) as pool:  # the browser's driver keeps a loop in this thread
        pool.submit(asyncio.run, guard(made, receive, send)).result()
    if not sent:
        return None
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def guard_of(waiting: Waiting = OPEN, **config: Any) -> Guard:
    return Guard(_app, config=GuardConfig(hosts=HOSTS, **config), waiting=lambda *_: waiting)


def join(guard: Guard, body: bytes) -> Any:
    return ask(guard, method="POST", path=JOIN, body=body)


def test_guard_adds_security_headers() -> None:
    status, headers, _ = ask(guard_of())
    assert status == 200
    assert b"frame-ancestors 'none'" in headers[b"content-security-policy"]
    assert headers[b"x-content-type-options"] == b"nosniff"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", ""])
def test_guard_refuses_other_hosts(host: str) -> None:
    status, _, body = ask(guard_of(), headers={"host": host})
    assert status == 421
    assert "not served as" in json.loads(body)["detail"]


def test_guard_refuses_posts_of_other_sites() -> None:
    headers = {"origin": "https://evil.example"}
    assert ask(guard_of(), method="POST", headers=headers)[0] == 403


def test_guard_refuses_a_large_body_by_its_length() -> None:
    headers = {"content-length": str(MAX_BODY + 1)}
    assert ask(guard_of(), method="POST", headers=headers)[0] == 413


def test_guard_breaks_off_a_body_that_grows_too_large() -> None:
    assert ask(guard_of(), method="POST", body=b"x" * (MAX_BODY + 2)) is None


def test_guard_refuses_a_large_request_to_the_queue() -> None:
    assert join(guard_of(), b"x" * (MAX_BODY + 2))[0] == 413


def test_guard_passes_the_whole_body_on() -> None:
    body = json.dumps({"session_hash": "abcdefghij"}).encode()
    assert join(guard_of(), body)[2] == str(len(body)).encode()


def test_guard_slows_an_address_down() -> None:
    guard = guard_of(requests_per_minute=3)
    assert [ask(guard)[0] for _ in range(4)] == [200, 200, 200, 429]
    assert ask(guard, client=("10.0.0.2", 1))[0] == 200


def test_guard_lets_a_first_visit_load_all_its_files() -> None:
    guard = guard_of(requests_per_minute=10)
    found = [ask(guard, path=f"/assets/{i}.js")[0] for i in range(90)]
    assert [*found, ask(guard)[0]] == [200] * 91


def test_guard_slows_down_whoever_asks_for_files_for_ever() -> None:
    guard = guard_of(requests_per_minute=1)
    assert ask(guard)[0] == 200
    assert ask(guard, path="/assets/x.js")[0] == 429
    assert ask(guard_of(), method="POST", path="/assets/x.js")[0] == 200


@pytest.mark.parametrize(
    ("waiting", "status", "sentence"),
    [
        (Waiting(total=32, mine=0, seconds=16), 503, "Try again in 16 s"),
        (Waiting(total=4, mine=0, seconds=180), 503, "Try again in 180 s"),
        (Waiting(total=3, mine=2, seconds=1), 429, "2 of your requests are running"),
    ],
)
def test_guard_says_when_to_come_back(waiting: Waiting, status: int, sentence: str) -> None:
    found = join(guard_of(waiting), b'{"session_hash": "abcdefghij"}')
    assert found[0] == status
    assert sentence in json.loads(found[2])["detail"]


def test_refused_requests_are_told_to_come_back_one_after_the_other() -> None:
    guard = guard_of(Waiting(total=3, mine=2, seconds=1, each=2))
    told = [join(guard, b'{"session_hash": "abcdefghij"}')[1][b"retry-after"] for _ in range(3)]
    assert told == [b"1", b"3", b"5"]
    assert join(guard, b'{"session_hash": "another_one"}')[1][b"retry-after"] == b"1"


def test_of_many_that_come_at_once_only_the_allowed_are_admitted() -> None:
    inside = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await inside.wait()
        await _app(scope, receive, send)

    guard = Guard(slow, config=GuardConfig(hosts=HOSTS), waiting=lambda *_: OPEN)
    found: list[int] = []

    async def one() -> None:
        body = {"type": "http.request", "body": b'{"session_hash": "abcdefghij"}'}

        async def receive() -> Any:
            return body

        async def send(message: Any) -> None:
            found.extend([message["status"]] if "status" in message else [])

        scope = {"type": "http", "method": "POST", "path": JOIN, "client": ("127.0.0.1", 1)}
        await guard({**scope, "headers": [(b"host", b"localhost")]}, receive, send)

    async def all_at_once() -> None:
        jobs = [asyncio.create_task(one()) for _ in range(5)]
        await asyncio.sleep(0.05)
        inside.set()
        await asyncio.gather(*jobs)
        await one()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, all_at_once()).result()
    assert found == [429, 429, 429, 200, 200, 200]


def test_no_appointment_is_further_ahead_than_a_minute() -> None:
    appointments = Appointments()
    for _ in range(200):
        seconds = appointments.book("a", soonest=1, each=1)
    assert 59 < seconds <= MAX_AHEAD


def test_guard_lets_a_few_wait_however_slow_the_first_was() -> None:
    waiting = Waiting(total=0, mine=0, seconds=180)
    assert join(guard_of(waiting), b'{"session_hash": "abcdefghij"}')[0] == 200


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"session_hash": 7}', b"[" * 100_000])
def test_guard_refuses_a_request_without_a_session(body: bytes) -> None:
    assert join(guard_of(), body)[0] == 400


def test_those_who_are_let_in_are_told_how_long_it_takes() -> None:
    waiting = Waiting(total=3, mine=0, seconds=2.0, each=0.5, takes=1.0)
    _, headers, _ = join(guard_of(waiting, max_queue=32), b'{"session_hash": "abcdefghij"}')
    assert headers[b"x-expected-wait"] == b"3.00"
    assert headers[b"x-longest-wait"] == b"16.00"


@pytest.mark.parametrize(("each", "longest"), [(0.5, 16.0), (10.0, 120.0), (50.0, 200.0)])
def test_longest_wait_is_that_of_whoever_is_let_in_last(each: float, longest: float) -> None:
    assert guard_of(max_queue=32, longest_wait=120.0).longest(each) == longest


def test_time_of_a_request_is_that_of_the_latest() -> None:
    lately = Lately()
    for seconds in [100.0] * 5 + [1.0] * RECENT:
        lately.add(seconds)
    assert (lately.avg_time, lately.count, lately.process_time) == (1.0, RECENT, RECENT)
