"""The page: its tabs, and what leads from one to another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from app.api import add_endpoints
from app.service.service import ZOO_PREFIX
from app.tabs.about import AboutTab
from app.tabs.combine import CombineTab
from app.tabs.common import LIGHT, PRIVATE, Parts, sentences
from app.tabs.generate import GenerateTab
from app.tabs.inspect_it import InspectTab
from app.tabs.lens import LensTab
from app.tabs.search import SearchTab
from app.tabs.try_it import TryTab
from app.tabs.zoo import ZooTab

STYLE = Path(__file__).parent / "style.css"
TITLE = "lora_gen: describe a task, get a LoRA adapter"
HEADER = "# lora_gen\nDescribe a task, get a LoRA adapter: made in seconds, tried at once, yours."
CLEAN_EVERY, CLEAN_OLDER = 600, 3_600


def theme() -> gr.themes.Base:
    """Fonts of the visitor's own machine: nothing is fetched from elsewhere."""
    return gr.themes.Soft(
        primary_hue="indigo",
        neutral_hue="slate",
        font=["ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=["ui-monospace", "Consolas", "monospace"],
    ).set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        button_primary_text_color="white",
        checkbox_label_background_fill_selected="*primary_600",
        checkbox_label_background_fill_selected_dark="*primary_600",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_title_background_fill="none",
        block_title_background_fill_dark="none",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_padding="0",
        block_label_background_fill="*background_fill_secondary",
        block_label_text_color="*body_text_color",
        input_border_width="1px",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_600",
        input_shadow="none",
    )


def build(parts: Parts) -> gr.Blocks:
    """The page, not yet served."""
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, delete_cache=(CLEAN_EVERY, CLEAN_OLDER)
    ) as page:
        gr.Markdown(HEADER, elem_id="header")
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
            with gr.Tab("Generate", id="generate", elem_id="tab-generate"):
                GenerateTab(parts)
            with gr.Tab("Try", id="try", elem_id="tab-try") as try_tab:
                trial = TryTab(parts)
            with gr.Tab("Inspect", id="inspect", elem_id="tab-inspect") as inspect_tab:
                inspection = InspectTab(parts)
            with gr.Tab("Combine", id="combine", elem_id="tab-combine") as combine_tab:
                combined = CombineTab(parts)
            with gr.Tab("Lens", id="lens", elem_id="tab-lens"):
                LensTab(parts)
            with gr.Tab("Zoo", id="zoo", elem_id="tab-zoo") as zoo_tab:
                zoo = ZooTab(parts)
            with gr.Tab("Search", id="search", elem_id="tab-search") as search_tab:
                search = SearchTab(parts)
            with gr.Tab("About", id="about", elem_id="tab-about"):
                AboutTab(parts)
        events: dict[str, Any] = {**LIGHT, **PRIVATE}
        menu = _menu(parts)
        try_tab.select(menu, trial.adapters, trial.adapters, **events)
        inspect_tab.select(menu, inspection.adapter, inspection.adapter, **events)
        combine_tab.select(menu, combined.adapters, combined.adapters, **events)
        search_tab.select(menu, search.adapter, search.adapter, **events)
        zoo_tab.select(zoo.draw, None, zoo.map, **events)
        opened = _opened(parts, inspection)
        shown = [tabs, inspection.adapter, *inspection.shown, trial.adapters, trial.inputs]
        for clickable in (zoo.map, zoo.list, search.list, inspection.near):
            clickable.click(opened, None, shown, **events)
        page.unload(_forget(parts))
        add_endpoints(parts)
    built: gr.Blocks = page
    return built


def _menu(parts: Parts) -> Callable[..., Any]:
    @sentences
    def menu(chosen: Any, request: gr.Request) -> Any:
        """The choices of a menu, the visitor's new adapters first; the newest one is chosen."""
        choices = parts.menu(request)
        own = [own.id for own in parts.session(request).adapters()]
        if chosen or not own:
            return gr.update(choices=choices)
        return gr.update(choices=choices, value=[own[0]] if isinstance(chosen, list) else None)

    return menu


def _opened(parts: Parts, inspection: InspectTab) -> Callable[..., Any]:
    @sentences
    def opened(request: gr.Request, event: gr.EventData) -> list[Any]:
        """Whatever was clicked in a list or on the map, in Inspect or in Try."""
        clicked = str(event._data.get("id", ""))
        own = {one.id for one in parts.session(request).adapters()}
        reference = clicked if clicked in own else ZOO_PREFIX + clicked
        choices = parts.menu(request)
        if event._data.get("verb") == "try":
            entry = parts.service.zoo.entry(clicked)
            same = [gr.skip()] * len(inspection.shown)
            inputs = "\n".join(entry.prompts[:4])
            picked = gr.update(choices=choices, value=[reference])
            return [gr.update(selected="try"), gr.skip(), *same, picked, inputs]
        found = inspection.inspect(reference, request)
        picked = gr.update(choices=choices, value=reference)
        return [gr.update(selected="inspect"), picked, *found, gr.skip(), gr.skip()]

    return opened


def _forget(parts: Parts) -> Callable[[gr.Request], None]:
    def forget(request: gr.Request) -> None:
        """Delete what belongs to a visitor who has left."""
        parts.sessions.close(request.session_hash)

    return forget
