"""Starts the app with the safe profile, and cleans up after it."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.guard import FEW, Guard, GuardConfig, Waiting
from app.lean import ENVIRONMENT, lighten
from app.memory import release_until
from app.self_check import MOST_LINES, require_safe
from app.service.examiner import Examiner
from app.service.service import AppService
from app.service.sessions import Sessions
from app.settings import AppConfig, embedded_generators
from app.turns import take_turns
from lora_gen.errors import ConfigError

if TYPE_CHECKING:
    import gradio as gr

MAX_THREADS = 16
MAX_PAGES = 100
"""Visitors of whose page Gradio keeps a copy, about 0.4 MB each."""

MAX_HEAVY, MAX_LIGHT = 2, 8
"""Requests of one session that may wait or run: those that use a model, and all others."""

LIGHT_LINE = "light"
SECONDS_A_REQUEST = 0.5
"""Until one has been measured."""

LONGEST_WAIT = 120.0
"""Seconds; whoever would have to wait longer is told when to come back."""


@dataclass(kw_only=True)
class Running:
    """A served app; `close` stops it and deletes its temporary files."""

    url: str
    page: gr.Blocks
    work: Path
    service: AppService
    sessions: Sessions
    examiner: Examiner
    stopped: threading.Event = field(default_factory=threading.Event)

    def close(self) -> None:
        """Stop serving; safe to call twice."""
        self.stopped.set()
        self.page.close(verbose=False)
        self.examiner.close()
        shutil.rmtree(self.work, ignore_errors=True)


def make_work_folder() -> Path:
    """An empty folder for everything temporary, and the environment that Gradio reads at import.

    The working directory becomes an empty folder too: Gradio may hand out files that lie in it.
    """
    work = Path(tempfile.mkdtemp(prefix="lora_gen_app_"))
    for name in ("gradio", "sessions", "empty"):
        (work / name).mkdir(mode=0o700)
    os.environ["GRADIO_TEMP_DIR"] = str(work / "gradio")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ.update(ENVIRONMENT)
    os.chdir(work / "empty")
    return work


def start(config: AppConfig, *, warm: bool = True) -> Running:
    """Serve the app in the background.

    Args:
        config: What the operator chose; paths in it are absolute.
        warm: Load the models now, in a thread, so that the first visitor does not wait for them.

    Raises:
        ConfigError: The page is not as safe as it was meant to be.
    """
    work = make_work_folder()
    from app.tabs.common import Parts
    from app.ui import build
    from app.upload_gate import gate

    examiner = Examiner(config)
    service = AppService(config, examiner)
    sessions = Sessions(work / "sessions")
    page = build(Parts(service=service, sessions=sessions))
    # Gradio's bound is one for all lines together: a flood of one would shut out the others. The
    # guard bounds each.
    lines = len({fn.concurrency_id for fn in page.fns.values() if fn.queue is not False})
    bound = config.max_queue * min(lines, MOST_LINES)
    page.queue(max_size=bound, default_concurrency_limit=1, api_open=False)
    options = gate(_options(config, page), work, sessions.close_oldest, embed=config.embed)
    lighten(page)
    take_turns(page)
    _, url, _ = page.launch(**options)
    running = Running(
        url=url, page=page, work=work, service=service, sessions=sessions, examiner=examiner
    )
    try:
        require_safe(running, config)
    except ConfigError:
        running.close()
        raise
    release_until(running.stopped)
    if warm:
        threading.Thread(target=_warm_up, args=(service,), daemon=True).start()
    return running


def waiting(page: gr.Blocks, session: str, target: int | str) -> Waiting:
    """How many requests wait in the line of `target`, and how many there are of one session.

    Args:
        page: The served page.
        session: Whose requests count as its own.
        target: Number of the function that is asked for, or the name of its endpoint.
    """
    queue = page._queue
    name = next(
        (fn.concurrency_id for fn in page.fns.values() if target in (fn._id, fn.api_name)), None
    )
    line = queue.event_queue_per_concurrency_id.get(name or "")
    queued = list(line.queue) if line else []
    running = [event for job in queue.active_jobs if job for event in job]
    mine = sum(event.session_hash == session for event in queued)
    mine += sum(e.session_hash == session and e.concurrency_id == name for e in running)
    spent = list(queue.process_time_per_fn.items())
    known = {fn: times for fn, times in spent if fn.concurrency_id == name}
    at_once = (line.concurrency_limit if line else None) or 1
    count = sum(times.count for times in known.values())
    total = sum(times.process_time for times in known.values())
    typical = total / count if count else SECONDS_A_REQUEST * at_once
    each = typical / at_once
    allowed = MAX_LIGHT if name == LIGHT_LINE else MAX_HEAVY
    own = [known[event.fn].avg_time if event.fn in known else typical for event in queued]
    seconds = each + sum(own) / at_once
    return Waiting(
        total=len(queued), mine=mine, allowed=allowed, seconds=seconds, each=each, takes=typical
    )


def _warm_up(service: AppService) -> None:
    """Load the models, and say what a generation takes and how many may therefore wait."""
    seconds = service.warm_up()
    room = min(service.config.max_queue, max(FEW, int(LONGEST_WAIT / max(seconds, 1e-3))))
    print(f"ready: a generation takes {seconds:.2f} s alone, so {room} may wait", flush=True)


def _options(config: AppConfig, page: gr.Blocks) -> dict[str, Any]:
    """The safe profile: nothing is shared, monitored, shown or allowed that need not be."""
    from starlette.middleware import Middleware

    from app.ui import STYLE, theme

    guard = GuardConfig(
        hosts=config.allowed_hosts,
        requests_per_minute=config.requests_per_minute,
        max_queue=config.max_queue,
        longest_wait=LONGEST_WAIT,
        embed=config.embed,
    )
    own = [config.zoo, config.reports, config.encoder, config.quarantine]
    blocked = [*own, Path(config.generator), *map(Path, embedded_generators().values())]
    if not Path(tempfile.gettempdir()).is_relative_to(Path.home()):
        blocked.append(Path.home())
    return {
        "server_name": config.host,
        "server_port": config.port or None,
        "auth": config.auth,
        "share": False,
        "inbrowser": False,
        "quiet": True,
        "prevent_thread_lock": True,
        "show_error": False,
        "enable_monitoring": False,
        "strict_cors": True,
        "ssr_mode": False,
        "mcp_server": config.mcp,
        "max_threads": MAX_THREADS,
        "state_session_capacity": MAX_PAGES,
        "max_file_size": "512mb",
        "allowed_paths": [],
        "blocked_paths": [str(path) for path in blocked if path is not None],
        "footer_links": ["api"],
        "theme": theme(),
        "css_paths": [STYLE],
        "app_kwargs": {
            "middleware": [Middleware(Guard, config=guard, waiting=partial(waiting, page))],
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
        },
    }
