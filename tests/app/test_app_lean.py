"""Gradio does for each visitor and each answer only what the page needs."""

from typing import Any

import pytest

from app.lean import ENVIRONMENT, POLL_SECONDS, _Described, lighten


class Block:
    """A component as Gradio keeps it."""


@pytest.fixture
def described() -> tuple[_Described, list[Any]]:
    calls: list[Any] = []

    def describe(_id: int, rendered: list[int], block: Any, renderable: Any = None) -> Any:
        calls.append(block)
        return {"id": _id, "props": {"value": None}, "api_info": {"type": "string"}}

    return _Described(describe), calls


def test_component_is_described_once(described: Any) -> None:
    describe, calls = described
    block = Block()
    first, second = describe(1, [], block), describe(1, [], block)
    assert first == second
    assert calls == [block]


def test_value_of_one_visitor_does_not_reach_another(described: Any) -> None:
    describe, _ = described
    block = Block()
    describe(1, [], block)["props"]["value"] = "secret"
    assert describe(1, [], block)["props"]["value"] is None


def test_component_that_is_rendered_anew_is_described_anew(described: Any) -> None:
    describe, calls = described
    block = Block()
    for _ in range(2):
        describe(1, [1], block, renderable="r")
    assert len(calls) == 2


def test_session_of_a_lightened_page_is_what_gradio_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    gr = pytest.importorskip("gradio")
    from gradio.blocks import BlocksConfig
    from gradio.state_holder import SessionState

    own = BlocksConfig.config_for_block
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with gr.Blocks(analytics_enabled=False) as page:
        box = gr.Textbox("a", label="b", info="c")
        gr.Slider(0, 5, value=1).change(lambda: "x", None, box)
    page.queue()
    before = SessionState(page).config_values
    monkeypatch.setattr(BlocksConfig, "config_for_block", own)
    lighten(page)
    assert SessionState(page).config_values == before == SessionState(page).config_values
    assert page._queue.ANALYTICS_MAX_EVENTS == 1
    assert page._queue.sleep_when_free == POLL_SECONDS
