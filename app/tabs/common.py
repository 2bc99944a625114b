"""What all tabs share: the service, whose session it is, and errors as sentences."""

from __future__ import annotations

import functools
import html
import inspect
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import gradio as gr

from app.service.service import AppService
from app.service.sessions import Session, Sessions
from lora_gen.errors import LoraGenError

LOGGER = logging.getLogger("lora_gen.app")
LIGHT: dict[str, Any] = {"concurrency_id": "light", "concurrency_limit": 4}
EXAMINING: dict[str, Any] = {"concurrency_id": "examining", "concurrency_limit": 2}
ANSWERING: dict[str, Any] = {"concurrency_id": "answering", "concurrency_limit": 1}
SEARCHING: dict[str, Any] = {"concurrency_id": "searching", "concurrency_limit": 2}
SAMPLING: dict[str, Any] = {"concurrency_id": "sampling", "concurrency_limit": 2}
"""Two: while the adapters of one request are written, the next one samples."""
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

Handler = TypeVar("Handler", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What every tab is built from."""

    service: AppService
    sessions: Sessions

    def session(self, request: gr.Request) -> Session:
        """The session of whoever sent the request."""
        return self.sessions.get(request.session_hash)

    def menu(self, request: gr.Request) -> list[tuple[str, str]]:
        """(title, reference) of the adapters that this visitor can choose."""
        return self.service.menu(self.session(request))


def sentences(handler: Handler) -> Handler:
    """The handler, its library errors shown as their sentences, any other one only logged."""
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
            try:
                yield from handler(*args, **kwargs)
            except Exception as error:
                raise told(error) from error

        return stream  # type: ignore[return-value]

    @functools.wraps(handler)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except Exception as error:
            raise told(error) from error

    return call  # type: ignore[return-value]


def told(error: Exception) -> gr.Error:
    """The error as a visitor reads it; a toast is markup, so the sentence is escaped."""
    if isinstance(error, gr.Error):
        return error
    if isinstance(error, LoraGenError):
        sentence = html.escape(str(error).replace("{", "(").replace("}", ")"))
        return gr.Error(sentence, title="That did not work", print_exception=False, duration=12)
    LOGGER.error("a handler failed", exc_info=error)
    return gr.Error(
        "Something broke on our side, and it has been logged. Try again.",
        title="That did not work",
        print_exception=False,
    )
