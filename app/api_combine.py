"""The endpoints for programs that make adapters of adapters; MCP tools too."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.service import combine
from app.service.combine import Combined
from app.service.sessions import CancelledError
from app.tabs.combine import COMBINING
from app.tabs.common import Parts, sentences
from lora_gen.weight_space.merge import METHODS


def add_combine_endpoints(parts: Parts) -> None:
    """Register the endpoints; files need components to travel through, which are never shown."""
    endpoints = CombineEndpoints(parts)
    hidden: dict[str, Any] = {"visible": False}
    rank = gr.Number(0, label="rank", **hidden)
    merging = [
        gr.JSON(label="adapters", **hidden),
        gr.JSON(label="weights", **hidden),
        gr.Dropdown(list(METHODS), value="linear", label="method", **hidden),
        rank,
    ]
    shrinking = [
        gr.Textbox(label="adapter", **hidden),
        rank,
        gr.Number(0, label="energy", **hidden),
    ]
    going = [
        gr.Textbox(label="first", **hidden),
        gr.Textbox(label="second", **hidden),
        gr.Number(0.5, label="share", **hidden),
        rank,
    ]
    for endpoint, inputs in (
        (endpoints.merge_adapters, merging),
        (endpoints.compress_adapter, shrinking),
        (endpoints.interpolate_adapters, going),
    ):
        outputs = [gr.JSON(label="made", **hidden), gr.File(label="zip", **hidden)]
        name = endpoint.__name__
        gr.Button(visible=False).click(endpoint, inputs, outputs, api_name=name, **COMBINING)


class CombineEndpoints:
    """What programs can ask; results belong to the caller's session."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @sentences
    def merge_adapters(
        self,
        adapters: list[str],
        weights: list[float] | None,
        method: str,
        rank: float,
        request: gr.Request,
    ) -> tuple[dict[str, Any], str]:
        """Merge two to eight adapters of one base into one, by their delta weights.

        Args:
            adapters: Ids that `generate_adapters`, `inspect_adapter` or `list_adapters` gave.
            weights: A number for each, or an empty list for the method's own.
            method: How, such as linear, ties, dare, tsv or isotropic.
            rank: Largest rank of the result; 0 keeps the sum of the ranks.
            request: Whose session it is; filled in by the server.

        Returns:
            The new adapter's id, size and error of the rank, and its zip file.
        """
        session = self._parts.session(request)
        options = {"weights": weights, "method": method, "rank": rank}
        return _told(lambda: combine.merge(self._parts.service, session, adapters, **options))

    @sentences
    def compress_adapter(
        self, adapter: str, rank: float, energy: float, request: gr.Request
    ) -> tuple[dict[str, Any], str]:
        """Make an adapter smaller: to a rank, or to a share of its energy.

        Args:
            adapter: An id that `generate_adapters`, `inspect_adapter` or `list_adapters` gave.
            rank: Rank of every module; 0 when `energy` is given.
            energy: Share of the squared norm to keep, up to 1; 0 when `rank` is given.
            request: Whose session it is; filled in by the server.

        Returns:
            The new adapter's id, size and error, and its zip file.
        """
        session = self._parts.session(request)
        options = {"rank": rank, "energy": energy}
        return _told(lambda: combine.compress(self._parts.service, session, adapter, **options))

    @sentences
    def interpolate_adapters(
        self, first: str, second: str, share: float, rank: float, request: gr.Request
    ) -> tuple[dict[str, Any], str]:
        """Make the adapter that lies some share of the way from one to another.

        Args:
            first: An id that `generate_adapters`, `inspect_adapter` or `list_adapters` gave.
            second: The same.
            share: 0 is the first, 1 the second; -1 to 2 goes beyond them.
            rank: Largest rank of the result; 0 keeps the sum of the ranks.
            request: Whose session it is; filled in by the server.

        Returns:
            The new adapter's id, size and error of the rank, and its zip file.
        """
        session, both = self._parts.session(request), [first, second]
        options = {"share": share, "rank": rank}
        return _told(lambda: combine.between(self._parts.service, session, both, **options))


def _told(work: Any) -> tuple[dict[str, Any], str]:
    try:
        made: Combined = work()
    except CancelledError as error:
        raise gr.Error("Cancelled. Nothing was kept.", print_exception=False) from error
    return made.to_dict(), str(made.zip)
