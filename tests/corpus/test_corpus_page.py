"""U03: strangers' texts in a real browser. Nothing runs, and nothing is asked of another host."""

from __future__ import annotations

import html
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.pictures.findings import findings, note
from app.pictures.heat_map import heat_map
from app.pictures.markup import render, table
from app.pictures.spectra import module_table
from app.service.inspection import Inspection, examine
from app.service.models import Models
from lora_gen.adapter.io import load_adapter
from tests.corpus.build import adapter
from tests.corpus.cards import HOSTILE
from tests.corpus.page import InertError, judge_markup

CHROMIUM = shutil.which("chromium")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-extensions", "--virtual-time-budget=4000", "--dump-dom"),
)


@pytest.fixture(scope="module")
def inspected(tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    """What the app finds in a good adapter of a stranger."""
    folder = adapter(tmp_path_factory.mktemp("page") / "in")
    return examine(Models("", ()), folder, load_adapter(folder), title="upload")


def drawn(inspected: Inspection, text: str) -> list[str]:
    """Everything that the app draws of an adapter, all of its words hostile."""
    facts = replace(inspected.modules[0], module=text)
    found = replace(
        inspected,
        title=text,
        format=text,
        base=text,
        errors=(text,),
        warnings=(text,),
        modules=(facts,),
        runtimes=((text, False, text),),
        card=text,
    )
    listing = render(table([text], [[text]], label=text))
    heat = heat_map({text: 1.0, f"a.0.{text}": 2.0}, caption=text)
    return [findings(found), note(text, kind="bad"), listing, heat, module_table((facts,))]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_drawn_of_a_stranger_is_inert(inspected: Inspection, text: str) -> None:
    for markup in drawn(inspected, text):
        judge_markup(markup)


@pytest.mark.parametrize("text", HOSTILE[:9])
def test_judge_of_markup_finds_what_is_not_inert(text: str) -> None:
    if "<" in text:
        with pytest.raises(InertError):
            judge_markup(f"<p>{text}</p>")


@pytest.fixture
def proxy() -> Iterator[tuple[int, list[bytes]]]:
    """A port that stands for the rest of the world, and what was asked of it."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    asked.append(connection.recv(4096))

        threading.Thread(target=listen, daemon=True).start()
        yield server.getsockname()[1], asked


def visit(page: Path, port: int) -> str:
    assert CHROMIUM is not None
    command = [CHROMIUM, *OPTIONS, f"--proxy-server=127.0.0.1:{port}", page.as_uri()]
    command.insert(1, f"--user-data-dir={page.parent / 'profile'}")
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout


def outside(asked: list[bytes]) -> list[bytes]:
    return [request for request in asked if b"outside.example" in request]


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed; `.ci/run` installs it")
def test_browser_runs_nothing_and_asks_nobody(
    inspected: Inspection, tmp_path: Path, proxy: tuple[int, list[bytes]]
) -> None:
    parts = [markup for text in HOSTILE for markup in drawn(inspected, text)]
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><title>clean</title>{''.join(parts)}", "utf-8")
    shown = visit(page, proxy[0])
    assert "<title>clean</title>" in shown
    assert outside(proxy[1]) == []
    assert html.escape("<script>") in shown


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed; `.ci/run` installs it")
def test_browser_would_have_run_and_asked(tmp_path: Path, proxy: tuple[int, list[bytes]]) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><title>clean</title>{''.join(HOSTILE[:8])}", "utf-8")
    assert "<title>owned</title>" in visit(page, proxy[0])
    assert outside(proxy[1]) != []
