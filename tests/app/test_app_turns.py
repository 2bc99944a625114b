"""Whoever asks for much at once waits behind whoever asks for little."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.turns import Line, Turns, take_turns


def _ask(session: str, number: int = 0) -> Any:
    return SimpleNamespace(session_hash=session, number=number)


def _line(names: str, running: str = "") -> str:
    line = Line(lambda: [_ask(name) for name in running])
    for number, name in enumerate(names):
        line.append(_ask(name, number))
    return "".join(one.session_hash for one in line)


@given(st.text("abc", max_size=12), st.text("abc", max_size=4))
def test_line_loses_nobody_and_keeps_the_order_of_each(names: str, running: str) -> None:
    line = Line(lambda: [_ask(name) for name in running])
    for number, name in enumerate(names):
        line.append(_ask(name, number))
    for name in "abc":
        own = [one.number for one in line if one.session_hash == name]
        assert own == [number for number, other in enumerate(names) if other == name]


@given(st.text("abc", max_size=12), st.text("abc", max_size=4))
def test_nobody_has_two_turns_more_than_who_waits_behind(names: str, running: str) -> None:
    turns, order = {name: running.count(name) for name in "abc"}, _line(names, running)
    seen = []
    for name in order:
        seen.append(turns[name])
        turns[name] += 1
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("names", "running", "order"),
    [("abc", "", "abc"), ("aaab", "", "abaa"), ("ab", "a", "ba"), ("aabb", "", "abab")],
)
def test_first_requests_go_before_second_ones(names: str, running: str, order: str) -> None:
    assert _line(names, running) == order


def _queue(waiting: str, running: str, limit: int) -> Any:
    def asked(name: str) -> Any:
        return SimpleNamespace(session_hash=name, concurrency_id="line")

    queue = SimpleNamespace(active_jobs=[[asked(name)] for name in running] + [None])
    line = SimpleNamespace(concurrency_limit=limit, current_concurrency=len(running))
    line.queue = [asked(name) for name in waiting]
    queue.event_queue_per_concurrency_id = {"line": line}
    return queue


@pytest.mark.parametrize(
    ("waiting", "running", "limit", "chosen"),
    [
        ("ab", "", 1, "a"),
        ("ab", "a", 1, None),
        ("ab", "a", 2, "b"),
        ("aa", "a", 2, None),
        ("aab", "a", 4, "a"),
        ("aab", "aa", 4, "b"),
        ("", "", 2, None),
    ],
)
def test_one_visitor_has_at_most_half_of_the_places(
    waiting: str, running: str, limit: int, chosen: str | None
) -> None:
    queue = _queue(waiting, running, limit)
    found = Turns(queue)()
    assert (found[0][0].session_hash if found else None) == chosen
    left = queue.event_queue_per_concurrency_id["line"].queue
    assert len(left) == len(waiting) - (chosen is not None)


def test_every_line_of_a_page_takes_turns() -> None:
    gr = pytest.importorskip("gradio")
    with gr.Blocks(analytics_enabled=False) as page:
        gr.Button().click(lambda: None, concurrency_id="one", concurrency_limit=2)
        gr.Button().click(lambda: None, concurrency_id="two")
    page.queue(default_concurrency_limit=1)
    take_turns(page)
    lines = page._queue.event_queue_per_concurrency_id
    assert [lines[name].concurrency_limit for name in ("one", "two")] == [2, 1]
    assert all(isinstance(line.queue, Line) for line in lines.values())
