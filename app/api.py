"""The endpoints for programs: typed functions with docstrings, which are MCP tools too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import gradio as gr
from gradio.events import api

from app.api_combine import add_combine_endpoints
from app.api_pictures import add_picture_endpoints
from app.service.candidates import Candidate
from app.service.generation import GenerateRequest, Shape
from app.service.search import Hit
from app.service.service import ZOO_PREFIX
from app.service.sessions import CancelledError
from app.tabs.common import ANSWERING, EXAMINING, LIGHT, SAMPLING, SEARCHING, Parts, sentences


def add_endpoints(parts: Parts) -> None:
    """Register every public endpoint on the page that is being built."""
    endpoints = Endpoints(parts)
    _add_generate(endpoints)
    _add_inspect(endpoints)
    api(endpoints.answer_inputs, **ANSWERING)
    api(endpoints.search_zoo, **SEARCHING)
    api(endpoints.similar_adapters, **LIGHT)
    api(endpoints.list_adapters, **LIGHT)
    api(endpoints.cancel_generation, **LIGHT)
    add_combine_endpoints(parts)
    add_picture_endpoints(parts)


class Endpoints:
    """What programs can ask; results belong to the caller's session."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @sentences
    def generate_adapters(
        self,
        description: str,
        base: str,
        candidates: float,
        rank: float,
        steps: float,
        guidance: float,
        seed: float,
        request: gr.Request,
    ) -> Iterator[tuple[dict[str, Any], str | None]]:
        """Generate LoRA adapters from a description of a task.

        A request that is sent again with the same `Idempotency-Key` header, in the same session,
        gets the adapters that the first one made.

        Args:
            description: What the base should do, in a sentence.
            base: Base model, such as tiny_lm.
            candidates: Number of adapters, 1 to 8.
            rank: LoRA rank, 1 to 64.
            steps: Sampler steps, 1 to 64.
            guidance: Weight of the description against none; 1 is plain sampling.
            seed: The same seed gives the same adapters.
            request: Whose session it is; filled in by the server.

        Yields:
            First the sampler's progress; at last the adapters' ids, sizes and records, and the zip
            file of the first one.
        """
        asked = GenerateRequest(
            description=description,
            base=base,
            candidates=candidates,  # type: ignore[arg-type]  # checked and made whole there
            rank=rank,  # type: ignore[arg-type]
            steps=steps,  # type: ignore[arg-type]
            guidance=guidance,
            seed=seed,  # type: ignore[arg-type]
        )
        session = self._parts.session(request)
        key = request.headers.get("idempotency-key", "")
        with session.work() as cancelled:
            try:
                for update in self._parts.service.generate(session, asked, cancelled, key=key):
                    if isinstance(update, Shape):
                        yield {"step": update.step, "steps": update.steps}, None
                    else:
                        yield {"adapters": [_plain(one) for one in update]}, str(update[0].zip)
            except CancelledError as error:
                raise gr.Error("Cancelled. Nothing was kept.", print_exception=False) from error

    @sentences
    def cancel_generation(self, request: gr.Request) -> int:
        """Stop what the caller's session is generating; nothing of it is kept.

        Args:
            request: Whose session it is; filled in by the server.

        Returns:
            How many runs were told to stop; they do within one sampler step.
        """
        return self._parts.session(request).cancel()

    @sentences
    def inspect_adapter(self, files: list[str], request: gr.Request) -> dict[str, Any]:
        """Examine an adapter: what it is, how much it changes, what is wrong, where it runs.

        Args:
            files: One zip file, or adapter_config.json and adapter_model.safetensors.
            request: Whose session it is; filled in by the server.

        Returns:
            The findings; the adapter's id is under `id`.
        """
        session = self._parts.session(request)
        own = self._parts.service.receive(session, files or [])
        inspection, near = self._parts.service.inspect(session, own.id)
        nearest = [{"task": n.entry.task, "cosine": n.cosine} for n in near]
        return {"id": own.id, **inspection.to_dict(), "nearest": nearest}

    @sentences
    def answer_inputs(
        self, request: gr.Request, adapters: list[str], inputs: list[str], strength: float = 1.0
    ) -> list[dict[str, str]]:
        """Answer inputs with the base alone and with each adapter.

        Args:
            adapters: Ids that `generate_adapters`, `inspect_adapter` or `list_adapters` gave.
            inputs: At most 16 inputs.
            strength: Factor on the adapters' effect.
            request: Whose session it is; filled in by the server.

        Returns:
            For each input, its text and the answer of each column.
        """
        session = self._parts.session(request)
        head, rows = self._parts.service.answers(session, adapters, inputs, strength=strength)
        return [dict(zip(head, row, strict=True)) for row in rows]

    @sentences
    def search_zoo(self, description: str, count: int = 10) -> list[dict[str, Any]]:
        """Find the zoo's adapters that come nearest to a description.

        Args:
            description: What the adapter should do.
            count: How many, 1 to 50.

        Returns:
            Nearest first: id, task, the wording that matched, its cosine.
        """
        return [_hit(hit) for hit in self._parts.service.search(description, count)]

    @sentences
    def similar_adapters(
        self, request: gr.Request, adapter: str, count: int = 10
    ) -> list[dict[str, Any]]:
        """Find the zoo's adapters whose weights change the base most like a given one.

        Args:
            adapter: An id that `generate_adapters`, `inspect_adapter` or `list_adapters` gave.
            count: How many, 1 to 50.
            request: Whose session it is; filled in by the server.

        Returns:
            Most alike first: id, task, its first wording, the cosine of the delta weights.
        """
        session = self._parts.session(request)
        return [_hit(hit) for hit in self._parts.service.similar(session, adapter, count)]

    @sentences
    def list_adapters(self, request: gr.Request) -> list[dict[str, str]]:
        """List the adapters that can be answered with: the caller's own first, then the zoo's.

        Args:
            request: Whose session it is; filled in by the server.

        Returns:
            For each, its id and title.
        """
        return [{"id": id, "title": title} for title, id in self._parts.menu(request)]


def _hit(hit: Hit) -> dict[str, Any]:
    return {
        "id": f"{ZOO_PREFIX}{hit.entry.id}",
        "task": hit.entry.task,
        "wording": hit.wording,
        "cosine": hit.score,
    }


def _plain(one: Candidate) -> dict[str, Any]:
    return {
        "id": one.own.id,
        "title": one.own.title,
        "rank": one.own.adapter.max_rank,
        "modules": len(one.own.adapter.pairs),
        "norm": one.norm,
        "memorization": one.memorized,
        "quality": asdict(one.quality),
        "nearest": [{"task": near.entry.task, "cosine": near.cosine} for near in one.neighbors],
        "record": dict(one.own.record),
    }


def _add_generate(endpoints: Endpoints) -> None:
    """Files need components to travel through; these are never shown."""
    bases = list(endpoints._parts.service.config.bases)
    hidden: dict[str, Any] = {"visible": False}
    inputs = [
        gr.Textbox(label="description", **hidden),
        gr.Dropdown(bases, value=bases[0], label="base", **hidden),
        gr.Number(1, label="candidates", **hidden),
        gr.Number(4, label="rank", **hidden),
        gr.Number(4, label="steps", **hidden),
        gr.Number(1.0, label="guidance", **hidden),
        gr.Number(0, label="seed", **hidden),
    ]
    outputs = [gr.JSON(label="adapters", **hidden), gr.File(label="zip", **hidden)]
    button = gr.Button(visible=False)
    button.click(
        endpoints.generate_adapters, inputs, outputs, api_name="generate_adapters", **SAMPLING
    )


def _add_inspect(endpoints: Endpoints) -> None:
    files = gr.File(label="files", file_count="multiple", visible=False)
    found = gr.JSON(label="findings", visible=False)
    button = gr.Button(visible=False)
    button.click(endpoints.inspect_adapter, files, found, api_name="inspect_adapter", **EXAMINING)
