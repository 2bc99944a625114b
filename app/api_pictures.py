"""The endpoint for programs that look at what a base draws; an MCP tool too."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.service.answering import keep_sheet
from app.tabs.common import ANSWERING, Parts, sentences


def add_picture_endpoints(parts: Parts) -> None:
    """Register the endpoint; its file needs a component to travel through, never shown."""
    hidden: dict[str, Any] = {"visible": False}
    inputs = [
        gr.JSON(label="adapters", **hidden),
        gr.JSON(label="captions", **hidden),
        gr.Number(1.0, label="strength", **hidden),
    ]
    sheet = gr.File(label="sheet", **hidden)
    button = gr.Button(visible=False)
    endpoint = PictureEndpoints(parts).draw_captions
    button.click(endpoint, inputs, sheet, api_name="draw_captions", **ANSWERING)


class PictureEndpoints:
    """What programs can ask; results belong to the caller's session."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @sentences
    def draw_captions(
        self, adapters: list[str], captions: list[str], strength: float, request: gr.Request
    ) -> str:
        """Draw captions with the base alone and with each adapter, from the same noise.

        Args:
            adapters: Ids that `generate_adapters`, `inspect_adapter` or `list_adapters` gave, of
                a base that draws.
            captions: At most 6 captions.
            strength: Factor on the adapters' effect.
            request: Whose session it is; filled in by the server.

        Returns:
            A PNG: a row for each caption, a column for the base and for each adapter.
        """
        session = self._parts.session(request)
        png = self._parts.service.pictures(session, adapters or [], captions, strength=strength)
        return str(keep_sheet(session, png))
