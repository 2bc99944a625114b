"""Elements and their serialization; the one place where markup is made from values."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree.ElementTree import Element, SubElement, tostring

_TEMPLATE_CHARACTERS = {"$": "&#36;", "{": "&#123;", "}": "&#125;", "`": "&#96;"}
"""What the page's template language would read; as entities they are only text."""

__all__ = ["Element", "add", "element", "render", "table"]


def element(tag: str, text: str | None = None, **attributes: str) -> Element:
    """An element; `class_` and `data_id` become `class` and `data-id`."""
    made = Element(tag, _named(attributes))
    made.text = None if text is None else clean(text)
    return made


def add(parent: Element, tag: str, text: str | None = None, **attributes: str) -> Element:
    """A new last child of `parent`."""
    made = SubElement(parent, tag, _named(attributes))
    made.text = None if text is None else clean(text)
    return made


def table(head: Iterable[str], rows: Iterable[Iterable[str]], *, label: str) -> Element:
    """A plain table in a box that scrolls sideways by itself, so that the page never does."""
    box = element("div", class_="lg-scroll", tabindex="0", role="region", aria_label=label)
    made = add(box, "table", class_="lg-table")
    top = add(add(made, "thead"), "tr")
    for name in head:
        add(top, "th", name, scope="col")
    body = add(made, "tbody")
    for row in rows:
        line = add(body, "tr")
        for cell in row:
            add(line, "td", cell)
    return box


def render(root: Element) -> str:
    """The markup of a tree, every text in it escaped, template characters too."""
    markup = tostring(root, encoding="unicode", short_empty_elements=False)
    return "".join(_TEMPLATE_CHARACTERS.get(character, character) for character in markup)


def clean(text: str) -> str:
    """A text without control and direction characters, which could disguise what it says."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _named(attributes: dict[str, str]) -> dict[str, str]:
    return {name.rstrip("_").replace("_", "-"): clean(v) for name, v in attributes.items()}
