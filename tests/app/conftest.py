"""One served app for all tests of it, with a zoo in which strangers wrote some of the texts."""

import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from app_factories import HOSTILE, ROOT

from lora_gen.assets import asset_path
from lora_gen.zoo.store import Zoo

CHROMIUM = shutil.which("chromium")
PATIENCE = 300


@pytest.fixture(scope="session")
def app_zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve shipped adapters; three of them say they do something hostile."""
    folder = tmp_path_factory.mktemp("app") / "zoo"
    with Zoo.open(asset_path("tiny_lm", "zoo"), read_only=True) as shipped:
        entries = shipped.entries()[:12]
        items = []
        for number, entry in enumerate(entries):
            info = entry.info()
            if number < len(HOSTILE):
                texts = (HOSTILE[number],)
                info = replace(info, task=HOSTILE[number], family="", descriptions=texts)
            items.append((shipped.load(entry.id), info))
    with Zoo.open(folder, create=True) as zoo:
        zoo.add_many(items)
    return folder


@pytest.fixture(scope="session")
def app_url(app_zoo: Path) -> Iterator[str]:
    """Address of an app that runs as users start it, in a process of its own."""
    with _served(app_zoo, "--quarantine", str(app_zoo.parent / "quarantine")) as url:
        yield url


@pytest.fixture
def mcp_url(app_zoo: Path) -> Iterator[str]:
    """Address of an app that offers its endpoints as MCP tools too."""
    pytest.importorskip("mcp", reason="MCP needs the extra `mcp`")
    with _served(app_zoo, "--mcp") as url:
        yield url


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    """Debian's chromium; root needs it without its sandbox."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed; `.ci/run` installs it")
    return {"executable_path": CHROMIUM, "args": ["--no-sandbox", "--disable-dev-shm-usage"]}


@pytest.fixture
def opened(page: Any, app_url: str) -> Iterator[Any]:
    """The app in a browser; no dialog may open and nothing may be asked of another host."""
    dialogs, strangers = [], []
    page.set_default_timeout(PATIENCE * 1000)
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: strangers.append(request.url))
    page.goto(app_url)
    page.wait_for_selector("#generate")
    yield page
    assert dialogs == []
    own = (app_url, "data:", "blob:")
    assert [url for url in strangers if not url.startswith(own)] == []


@contextmanager
def _served(zoo: Path, *options: str) -> Iterator[str]:
    command = [sys.executable, "-m", "app", "--port", "0", "--zoo", str(zoo), *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield _address(process)
    finally:
        process.terminate()
        process.wait(60)


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        ready, _, _ = select.select([process.stdout], [], [], 1)
        line = process.stdout.readline() if ready else ""
        if line.startswith("lora_gen is at "):
            return line.split()[3]
    raise RuntimeError("the app did not start")
