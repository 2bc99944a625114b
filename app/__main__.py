"""`python -m app`: serve the app until Ctrl+C."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path

from app.settings import AppConfig
from lora_gen.adapter.versions import python_warning, require_safe_versions
from lora_gen.errors import ConfigError, LoraGenError

PASSWORD = "LORA_GEN_APP_PASSWORD"
SWITCH_SECONDS = 0.001
"""How long a thread that computes may keep the interpreter from the one that answers visitors;
Python's own 5 ms, paid at each of a request's many steps, double the latency under load."""


def parser() -> argparse.ArgumentParser:
    """The command line of the app."""
    made = argparse.ArgumentParser(
        prog="python -m app",
        description="Describe a task, watch its LoRA adapter being made, try it, take it home.",
    )
    made.add_argument(
        "--port", type=int, default=7860, help="port to listen on; 0 takes a free one"
    )
    made.add_argument(
        "--host", default="127.0.0.1", help="address; others than this one need --auth"
    )
    made.add_argument("--auth", metavar="NAME", help=f"ask for NAME and the password in {PASSWORD}")
    made.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST",
        help="name under which visitors reach the app; may be repeated",
    )
    made.add_argument("--generator", metavar="FOLDER", help="generator folder or hub id")
    made.add_argument("--zoo", type=Path, metavar="FOLDER", help="zoo to show and search")
    made.add_argument(
        "--quarantine", type=Path, metavar="FOLDER", help="zoo folder that keeps uploads"
    )
    made.add_argument(
        "--rate", type=int, default=600, help="requests a minute that one address may make"
    )
    made.add_argument(
        "--encoder", type=Path, metavar="FOLDER", help="encoder that predicts an adapter's quality"
    )
    made.add_argument(
        "--mcp",
        action="store_true",
        help="offer the endpoints as MCP tools too; all their callers share one session",
    )
    made.add_argument(
        "--embed", action="store_true", help="let other pages show the app in a frame"
    )
    return made


def config_of(arguments: argparse.Namespace) -> AppConfig:
    """What was chosen on the command line.

    Raises:
        ConfigError: It is unsafe, or a password is missing.
    """
    defaults = AppConfig()
    password = os.environ.get(PASSWORD, "")
    if arguments.auth and not password:
        raise ConfigError(f"`--auth` needs a password. Put it into the variable {PASSWORD}.")
    zoo, quarantine = arguments.zoo, arguments.quarantine
    generator = arguments.generator or defaults.generator
    return AppConfig(
        host=arguments.host,
        port=arguments.port,
        auth=(arguments.auth, password) if arguments.auth else None,
        allowed_hosts=(*defaults.allowed_hosts, *(host.lower() for host in arguments.allow_host)),
        generator=str(Path(generator).resolve()) if Path(generator).is_dir() else generator,
        zoo=zoo.resolve() if zoo else defaults.zoo,
        quarantine=quarantine.resolve() if quarantine else None,
        encoder=arguments.encoder.resolve() if arguments.encoder else defaults.encoder,
        requests_per_minute=arguments.rate,
        mcp=arguments.mcp,
        embed=arguments.embed,
    )


def main(argv: list[str] | None = None) -> int:
    """Serve until a signal; the exit code."""
    began = time.monotonic()
    stop = threading.Event()
    try:
        require_safe_versions()
        config = config_of(parser().parse_args(argv))
        import torch

        from app.server import start

        # One visitor's request on all cores makes everybody wait: threads of one operation spin
        # at their barrier while another request has the core that the last of them needs.
        torch.set_num_threads(1)
        sys.setswitchinterval(SWITCH_SECONDS)
        running = start(config)
    except LoraGenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if advice := python_warning():
        print(f"note: {advice}", file=sys.stderr)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    print(f"lora_gen is at {running.url} (started in {time.monotonic() - began:.1f} s)", flush=True)
    stop.wait()
    running.close()
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # a model that is still being loaded in a thread aborts Python's own ending
