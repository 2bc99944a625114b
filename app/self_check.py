"""Whether the app that is about to be served is as safe as it was meant to be.

The options that we pass are not the last word: Gradio also reads `GRADIO_…` variables, and an
update may change what an option means. So the served page itself is examined, item by item of the
safe profile, and one that fails stops the app.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.settings import AppConfig, is_loopback
from lora_gen.errors import ConfigError

if TYPE_CHECKING:
    from app.server import Running

UPLOAD_BYTES = 512 * 2**20
MOST_SESSIONS, MOST_THREADS = 1_000, 40
MOST_LINES = 8
"""Of the queue, each with as much room as the operator chose."""
MOST_IDLE = 24 * 3_600
MOST_TEMPORARY = 10**11
UNSAFE = frozenset({"chatbot", "fileexplorer", "loginbutton", "plot"})
"""Components that list our files, log in elsewhere, or show markup that others wrote."""


def require_safe(running: Running, config: AppConfig) -> None:
    """Examine the served page.

    Raises:
        ConfigError: An item of the safe profile does not hold; the sentence names all of them.
    """
    found = list(faults(running.page, running.work, config))
    if found:
        raise ConfigError(
            f"The app is not served, since its safe profile does not hold: {'; '.join(found)}. "
            "Unset the GRADIO_ variables, and install the pinned version of Gradio."
        )


def faults(page: Any, work: Path, config: AppConfig) -> Iterator[str]:
    """What is not as the safe profile wants it, item by item.

    Args:
        page: The served `gr.Blocks`.
        work: The app's folder for everything temporary.
        config: What the operator chose.
    """
    yield from _reach(page, config)
    yield from _files(page, work)
    yield from _queues(page, config)
    yield from _paths(page, work, config)
    yield from _silence(page)
    yield from _components(page)
    yield from _guard(page, config)


def _reach(page: Any, config: AppConfig) -> Iterator[str]:
    """Who can reach it, and whom it tells."""
    if not is_loopback(config.host) and not (page.auth or getattr(page, "auth_dependency", None)):
        yield f"it listens on {config.host} without a password"
    if page.share or page.share_url:
        yield "it has a share link"
    if page.mcp_server and not config.mcp:
        yield "it serves MCP tools that nobody asked for"
    if page.dev_mode:
        yield "it reloads itself when files change"
    if page.ssr_mode:
        yield "a second server renders its pages"
    if page.analytics_enabled or os.environ.get("GRADIO_ANALYTICS_ENABLED") != "False":
        yield "it reports its use"


def _files(page: Any, work: Path) -> Iterator[str]:
    """Uploads, and what is temporary."""
    if not 0 < (page.max_file_size or 0) <= UPLOAD_BYTES:
        yield f"uploads may have {page.max_file_size} bytes"
    every, older = page.delete_cache or (0, 0)
    if not 0 < every <= older <= MOST_IDLE:
        yield f"temporary files are deleted by {page.delete_cache}"
    if Path(page.GRADIO_CACHE).resolve() != (work / "gradio").resolve():
        yield f"temporary files go to {page.GRADIO_CACHE}"
    for folder in (work, work / "gradio", work / "sessions"):
        if not folder.is_dir() or folder.stat().st_mode & 0o077:
            yield f"others can read {folder}"


def _queues(page: Any, config: AppConfig) -> Iterator[str]:
    """How much may run and wait at once."""
    queue = page._queue
    if not 0 < (queue.max_size or 0) <= config.max_queue * MOST_LINES:
        yield f"{queue.max_size} requests may wait"
    if page.max_threads > MOST_THREADS:
        yield f"{page.max_threads} threads may run"
    if page.state_session_capacity > MOST_SESSIONS:
        yield f"{page.state_session_capacity} sessions are kept"
    for fn in page.fns.values():
        if fn.queue and fn.concurrency_limit is None:
            yield f"`{fn.api_name}` may run any number of times at once"
    lines = {fn.api_name: fn.concurrency_id for fn in page.fns.values()}
    if lines.get("inspect_adapter") == lines.get("generate_adapters"):
        yield "inspecting and generating wait in one line"


def _paths(page: Any, work: Path, config: AppConfig) -> Iterator[str]:
    """What Gradio may hand out: nothing but what a function returned."""
    if page.allowed_paths:
        yield f"files under {page.allowed_paths[0]} may be read"
    blocked = {str(path) for path in page.blocked_paths}
    kept = [config.zoo, config.reports, config.quarantine, Path(config.generator)]
    for path in (path for path in kept if path is not None and path.exists()):
        if str(path) not in blocked:
            yield f"{path} is not blocked"
        if work.is_relative_to(path):
            yield f"temporary files lie in {path}"
    here = Path.cwd()
    if here != (work / "empty").resolve() or any(here.iterdir()):
        yield f"its working directory is {here}"


def _silence(page: Any) -> Iterator[str]:
    """What it says about itself."""
    if page.show_error:
        yield "errors are shown as they are"
    if page.enable_monitoring:
        yield "traffic is monitored"
    options = {m.cls.__name__: m.kwargs for m in page.app.user_middleware}
    if not options.get("CustomCORSMiddleware", {}).get("strict_cors"):
        yield "other sites may send requests"
    for fn in page.fns.values():
        if fn.api_visibility == "undocumented":
            yield f"`{fn.api_name}` can be called, but is not listed"


def _components(page: Any) -> Iterator[str]:
    """Where a stranger's text could become markup, or a stranger's path a file."""
    for block in page.blocks.values():
        kind = block.get_block_name()
        if kind in UNSAFE:
            yield f"it has a {kind}"
        if kind == "markdown" and not block.sanitize_html:
            yield "a text's markup is not cleaned"


def _guard(page: Any, config: AppConfig) -> Iterator[str]:
    """The middleware in front of everything."""
    options = {m.cls.__name__: m.kwargs for m in page.app.user_middleware}
    room = options.get("UploadGate", {}).get("room")
    if room is None or not 0 < room.quota <= MOST_TEMPORARY:
        yield "temporary files have no quota"
    guard = options.get("Guard", {}).get("config")
    if guard is None:
        yield "no guard stands in front of it"
        return
    if not guard.hosts or "*" in guard.hosts:
        yield "it answers to any host name"
    if guard.requests_per_minute != config.requests_per_minute:
        yield f"an address may send {guard.requests_per_minute} requests a minute"
    if guard.embed != config.embed:
        yield "other pages may show it in a frame"
