"""Spares what Gradio does for every answer and every visitor though nobody here reads it.

Under load this work was most of what a search took, and it ran where all visitors wait for it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from app.appointments import Lately

if TYPE_CHECKING:
    import gradio as gr

ENVIRONMENT = {
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(10**9),
    "GRADIO_ANALYTICS_MAX_EVENTS": "1",
}
"""After each answer Gradio makes a table of the last 10,000 for its dashboard, which is off here:
60 ms of the interpreter at first, 200 ms once they are that many. Set before its queue is made."""

POLL_SECONDS = 0.005
"""How often the queue looks for a free worker; Gradio's 1 ms takes a tenth of a core for ever."""


def lighten(page: gr.Blocks) -> None:
    """Make a built page cheap to serve; its own behavior stays as it is.

    Args:
        page: The page, with its queue, before the first visitor.
    """
    page._queue.sleep_when_free = POLL_SECONDS
    page._queue.process_time_per_fn = defaultdict(Lately)  # type: ignore[arg-type]
    from gradio.blocks import BlocksConfig

    if not isinstance(BlocksConfig.config_for_block, _Described):
        described = _Described(BlocksConfig.config_for_block)
        BlocksConfig.config_for_block = described  # type: ignore[method-assign]


class _Described:
    """Descriptions of components, made once for each component instead of once for each visitor.

    A visitor's page changes `props` alone, so that everything else is shared.

    Args:
        describe: Gradio's own, which takes 60 ms in the event loop for a page of ours.
    """

    def __init__(self, describe: Any) -> None:
        self.describe = describe
        self._known: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()

    def __call__(
        self, _id: int, rendered_ids: list[int], block: Any, renderable: Any = None
    ) -> dict[str, Any]:
        if renderable is not None:
            return dict(self.describe(_id, rendered_ids, block, renderable))
        if block not in self._known:
            self._known[block] = self.describe(_id, rendered_ids, block)
        made = self._known[block]
        return {**made, "props": dict(made["props"])}
