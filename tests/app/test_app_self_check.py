"""The safe profile, item by item: what the served page must be, and how a fault is named."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from app_factories import ROOT

from app.__main__ import main
from app.figures import main as figures
from app.guard import GuardConfig
from app.self_check import faults
from app.settings import AppConfig
from lora_gen.errors import MissingDependencyError


def _fn(name: str, line: str, **changes: Any) -> SimpleNamespace:
    given = {"api_name": name, "concurrency_id": line, "concurrency_limit": 1, "queue": True}
    return SimpleNamespace(**{**given, "api_visibility": "public", **changes})


def _block(kind: str, **changes: Any) -> SimpleNamespace:
    return SimpleNamespace(get_block_name=lambda: kind, **changes)


def _middleware(name: str, **kwargs: Any) -> SimpleNamespace:
    return SimpleNamespace(cls=type(name, (), {}), kwargs=kwargs)


CORS = _middleware("CustomCORSMiddleware", strict_cors=True)
GUARD = _middleware("Guard", config=GuardConfig(hosts=("127.0.0.1",)))
GATE = _middleware("UploadGate", room=SimpleNamespace(quota=4_000_000_000))


@pytest.fixture
def config(tmp_path: Path) -> AppConfig:
    for name in ("zoo", "reports", "generator"):
        (tmp_path / name).mkdir()
    place = {name: tmp_path / name for name in ("zoo", "reports")}
    return AppConfig(generator=str(tmp_path / "generator"), **place)  # type: ignore[arg-type]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    for place in (folder, *(folder / name for name in ("gradio", "sessions", "empty"))):
        place.mkdir(mode=0o700)
    monkeypatch.chdir(folder / "empty")
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    return folder


def _page(config: AppConfig, work: Path, **changes: Any) -> SimpleNamespace:
    """A page as it is served; `changes` break the profile."""
    safe: dict[str, Any] = {
        **dict.fromkeys(("share", "mcp_server", "dev_mode", "ssr_mode", "show_error"), False),
        **dict.fromkeys(("analytics_enabled", "enable_monitoring"), False),
        "auth": None,
        "share_url": None,
        "max_file_size": 512 * 2**20,
        "delete_cache": (600, 3_600),
        "GRADIO_CACHE": str(work / "gradio"),
        "max_threads": 16,
        "state_session_capacity": 200,
        "_queue": SimpleNamespace(max_size=config.max_queue),
        "fns": {1: _fn("inspect_adapter", "light"), 2: _fn("generate_adapters", "sampling")},
        "allowed_paths": [],
        "blocked_paths": [str(config.zoo), str(config.reports), config.generator],
        "blocks": {1: _block("markdown", sanitize_html=True), 2: _block("textbox")},
        "app": SimpleNamespace(user_middleware=[CORS, GUARD, GATE]),
    }
    return SimpleNamespace(**{**safe, **changes})


def test_safe_page_has_no_fault(config: AppConfig, work: Path) -> None:
    assert list(faults(_page(config, work), work, config)) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"share": True}, "it has a share link"),
        ({"mcp_server": True}, "it serves MCP tools that nobody asked for"),
        ({"dev_mode": True}, "it reloads itself when files change"),
        ({"ssr_mode": True}, "a second server renders its pages"),
        ({"analytics_enabled": True}, "it reports its use"),
        ({"max_file_size": None}, "uploads may have None bytes"),
        ({"max_file_size": 2**30}, "uploads may have 1073741824 bytes"),
        ({"delete_cache": None}, "temporary files are deleted by None"),
        ({"GRADIO_CACHE": "/tmp/gradio"}, "temporary files go to /tmp/gradio"),
        ({"_queue": SimpleNamespace(max_size=None)}, "None requests may wait"),
        ({"_queue": SimpleNamespace(max_size=10_000)}, "10000 requests may wait"),
        ({"max_threads": 400}, "400 threads may run"),
        ({"state_session_capacity": 10_000}, "10000 sessions are kept"),
        ({"allowed_paths": ["/"]}, "files under / may be read"),
        ({"show_error": True}, "errors are shown as they are"),
        (
            {"enable_monitoring": None, "app": SimpleNamespace(user_middleware=[GUARD, GATE])},
            "other",
        ),
        ({"enable_monitoring": True}, "traffic is monitored"),
        ({"app": SimpleNamespace(user_middleware=[CORS, GATE])}, "no guard stands in front of it"),
        ({"app": SimpleNamespace(user_middleware=[CORS, GUARD])}, "temporary files have no quota"),
        ({"blocks": {1: _block("fileexplorer")}}, "it has a fileexplorer"),
        ({"blocks": {1: _block("markdown", sanitize_html=False)}}, "a text's markup is not"),
    ],
)
def test_page_that_breaks_one_item_is_named(
    config: AppConfig, work: Path, changes: dict[str, Any], sentence: str
) -> None:
    (found,) = faults(_page(config, work, **changes), work, config)
    assert found.startswith(sentence)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"concurrency_limit": None}, "`inspect_adapter` may run any number of times at once"),
        ({"concurrency_id": "sampling"}, "inspecting and generating wait in one line"),
        ({"api_visibility": "undocumented"}, "`inspect_adapter` can be called, but is not listed"),
    ],
)
def test_function_that_breaks_the_profile_is_named(
    config: AppConfig, work: Path, changes: dict[str, Any], sentence: str
) -> None:
    fns = {1: _fn("inspect_adapter", **{"line": "light"}), 2: _fn("generate_adapters", "sampling")}
    for name, value in changes.items():
        setattr(fns[1], name, value)
    assert list(faults(_page(config, work, fns=fns), work, config)) == [sentence]


def test_store_that_is_not_blocked_is_named(config: AppConfig, work: Path) -> None:
    page = _page(config, work, blocked_paths=[str(config.zoo), config.generator])
    assert list(faults(page, work, config)) == [f"{config.reports} is not blocked"]


def test_working_directory_with_files_is_named(config: AppConfig, work: Path) -> None:
    (work / "empty" / "secret.txt").touch()
    (found,) = faults(_page(config, work), work, config)
    assert found == f"its working directory is {work / 'empty'}"


def test_folder_that_others_can_read_is_named(config: AppConfig, work: Path) -> None:
    (work / "sessions").chmod(0o755)
    assert list(faults(_page(config, work), work, config)) == [f"others can read {work}/sessions"]


@pytest.mark.parametrize(
    ("guard", "sentence"),
    [
        (GuardConfig(hosts=("*",)), "it answers to any host name"),
        (GuardConfig(hosts=("a",), embed=True), "other pages may show it in a frame"),
        (GuardConfig(hosts=("a",), requests_per_minute=9), "an address may send 9 requests a"),
    ],
)
def test_guard_that_lets_too_much_in_is_named(
    config: AppConfig, work: Path, guard: GuardConfig, sentence: str
) -> None:
    middleware = [CORS, _middleware("Guard", config=guard), GATE]
    page = _page(config, work, app=SimpleNamespace(user_middleware=middleware))
    (found,) = faults(page, work, config)
    assert found.startswith(sentence)


def test_app_with_a_package_below_its_floor_does_not_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise MissingDependencyError("`torch` is 2.5, and releases before 2.10.0 have known holes.")

    monkeypatch.setattr("app.__main__.require_safe_versions", refuse)
    assert main(["--port", "0"]) == 2
    assert capsys.readouterr().err == (
        "error: `torch` is 2.5, and releases before 2.10.0 have known holes.\n"
    )


@pytest.mark.slow
def test_app_is_not_served_when_a_variable_opens_the_disk() -> None:
    environment = {**os.environ, "GRADIO_ALLOWED_PATHS": "/"}
    command = [sys.executable, "-m", "app", "--port", "0"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2
    assert "its safe profile does not hold: files under / may be read. Unset the" in done.stderr


def test_readme_says_what_the_load_reports_say() -> None:
    assert figures(["--check"]) == 0
