"""A visitor of the app: what a browser sends, from the first request to leaving."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import httpx

WORDS = ("digits", "vowels", "the domain", "the year", "the first word", "the value", "the path")
BROKEN = b"PK\x03\x04 not an archive"


class RefusedError(Exception):
    """The app answered a request with an error; the text is what a visitor reads."""


class Visitor:
    """One browser: its session lives as long as its heartbeat. Use it with `with`."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=300)
        self._session = secrets.token_hex(8)
        beat = f"/gradio_api/heartbeat/{self._session}"
        self._heartbeat = self._http.stream("GET", beat, timeout=None)

    def __enter__(self) -> Visitor:
        self._heartbeat.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._heartbeat.__exit__(kind, value, trace)
        self._http.close()

    def ask(self, endpoint: str, *data: Any) -> Any:
        """What a public endpoint answers.

        Raises:
            RefusedError: It answered with an error.
        """
        path = f"/gradio_api/call/{endpoint}"
        body = {"data": data, "session_hash": self._session}
        event = self._http.post(path, json=body).raise_for_status().json()["event_id"]
        kind = ""
        with self._http.stream("GET", f"{path}/{event}") as stream:
            for line in stream.iter_lines():
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: ") and kind == "complete":
                    return json.loads(line.removeprefix("data: "))
                elif line.startswith("data: ") and kind == "error":
                    raise RefusedError(line)
        raise RefusedError("the answer broke off")

    def press(self, button: str, *data: Any) -> Any:
        """What the page's own button answers; `button` is its element id.

        Raises:
            RefusedError: It answered with an error.
        """
        asked = {"data": data, "fn_index": self._function(button), "session_hash": self._session}
        self._http.post("/gradio_api/queue/join", json=asked).raise_for_status()
        query = {"session_hash": self._session}
        with self._http.stream("GET", "/gradio_api/queue/data", params=query) as stream:
            for line in stream.iter_lines():
                told = json.loads(line.removeprefix("data: ")) if line else {}
                if told.get("msg") == "process_completed":
                    if not told["success"]:
                        raise RefusedError(str(told["output"]))
                    return told["output"]["data"]
        raise RefusedError("the answer broke off")

    def upload(self, content: bytes) -> dict[str, Any]:
        """A zip file as an endpoint takes it."""
        files = {"files": ("adapter.zip", content)}
        path = self._http.post("/gradio_api/upload", files=files).raise_for_status().json()[0]
        return {"path": path, "orig_name": "adapter.zip", "meta": {"_type": "gradio.FileData"}}

    def download(self, file: dict[str, Any]) -> bytes:
        """The bytes behind a file that an endpoint answered with."""
        return self._http.get(file["url"]).raise_for_status().content

    def _function(self, button: str) -> int:
        config = self._http.get("/config").raise_for_status().json()
        ids = [c["id"] for c in config["components"] if c["props"].get("elem_id") == button]
        found = [d["id"] for d in config["dependencies"] if [*ids, "click"] in d["targets"]]
        return int(found[0])


def visit(visitor: Visitor, rng: random.Random) -> Iterator[str]:
    """The steps of one visit; yields the name of each step that was answered.

    Raises:
        RefusedError: A good request was refused, or a broken upload was not.
    """
    wanted = f"keep only {rng.choice(WORDS)}"
    seed = rng.randrange(2**31)
    made, file = visitor.ask("generate_adapters", wanted, "tiny_lm", 1, 4, 4, 1.0, seed)
    yield "generate"
    content = visitor.download(file)
    visitor.ask("search_zoo", wanted, 10)
    yield "search"
    found = visitor.ask("inspect_adapter", [visitor.upload(content)])[0]
    yield "upload and inspect"
    visitor.ask("answer_inputs", [made["adapters"][0]["id"], found["id"]], ["a=1, b=2"], 1.0)
    yield "answer"
    told = visitor.press("zoo-add", [visitor.upload(content)], wanted)[0]
    if "Kept in quarantine" not in told:
        raise RefusedError(told)
    yield "add to a zoo"
    if rng.random() < 0.3:
        _send_broken(visitor)
        yield "broken upload"


def _send_broken(visitor: Visitor) -> None:
    try:
        visitor.ask("inspect_adapter", [visitor.upload(BROKEN)])
    except RefusedError:
        return
    raise RefusedError("a broken upload was taken for an adapter")
