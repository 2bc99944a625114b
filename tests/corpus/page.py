"""Whether markup of ours is inert: known elements and attributes, nothing that runs or loads."""

from __future__ import annotations

import re
from html.parser import HTMLParser

TAGS = frozenset(
    [
        "div",
        "p",
        "span",
        "strong",
        "b",
        "i",
        "small",
        "dl",
        "dt",
        "dd",
        "h3",
        "h4",
        "ul",
        "ol",
        "li",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "figure",
        "figcaption",
        "svg",
        "g",
        "circle",
        "text",
        "title",
        "rect",
        "line",
        "path",
        "button",
        "section",
        "article",
        "label",
        "code",
        "pre",
    ]
)
ATTRIBUTES = frozenset(
    [
        "class",
        "role",
        "title",
        "scope",
        "style",
        "tabindex",
        "id",
        "type",
        "cx",
        "cy",
        "r",
        "x",
        "y",
        "x1",
        "x2",
        "y1",
        "y2",
        "d",
        "width",
        "height",
        "fill",
        "viewbox",
        "transform",
        "for",
    ]
)
STYLE = re.compile(r"--[a-z]+:-?[0-9.]+(;--[a-z]+:-?[0-9.]+)*")
TEMPLATES = ("${", "{{", "`", "{%")


class InertError(AssertionError):
    """Markup holds what may run, load or be read as a template."""


class _Judge(HTMLParser):
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            raise InertError(f"<{tag}>")
        for name, value in attrs:
            if name not in ATTRIBUTES and not name.startswith(("aria-", "data-")):
                raise InertError(f"<{tag} {name}>")
            if name == "style" and not STYLE.fullmatch(value or ""):
                raise InertError(f"style {value!r}")

    def handle_comment(self, data: str) -> None:
        raise InertError("a comment")

    def handle_decl(self, decl: str) -> None:
        raise InertError("a declaration")

    def handle_pi(self, data: str) -> None:
        raise InertError("an instruction")

    def unknown_decl(self, data: str) -> None:
        raise InertError("a section")


def judge_markup(markup: str) -> None:
    """Check markup that is about to reach a page.

    Raises:
        InertError: It holds more than text in elements that do nothing.
    """
    for sign in TEMPLATES:
        if sign in markup:
            raise InertError(f"the template sign {sign}")
    judge = _Judge(convert_charrefs=True)
    judge.feed(markup)
    judge.close()
