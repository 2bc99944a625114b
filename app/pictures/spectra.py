"""Every module of an adapter: the size of its change, and how it spreads over directions."""

from __future__ import annotations

from collections.abc import Sequence

from app.pictures.markup import Element, add, element, render
from app.service.inspection import ModuleFacts

_SHOWN_VALUES = 16
_SHOWN_MODULES = 256


def module_table(modules: Sequence[ModuleFacts]) -> str:
    """Markup of a table of modules, largest change first, with a bar and a spectrum in each row."""
    label = "Norm and spectrum of each module"
    box = element("div", class_="lg-scroll lg-tall", tabindex="0", role="region", aria_label=label)
    made = add(box, "table", class_="lg-table lg-modules")
    head = add(add(made, "thead"), "tr")
    for name in ("module", "norm of the change", "singular values", "rank used"):
        add(head, "th", name, scope="col")
    body = add(made, "tbody")
    largest = max((facts.norm for facts in modules), default=0.0) or 1.0
    for facts in modules[:_SHOWN_MODULES]:
        line = add(body, "tr")
        add(line, "td", facts.module, class_="lg-name")
        bar = add(line, "td", class_="lg-barcell")
        add(bar, "i", style=f"--v:{facts.norm / largest:.3f}", class_="lg-bar")
        add(bar, "span", f"{facts.norm:.3g}")
        _spectrum(add(line, "td"), facts.singular_values)
        add(line, "td", f"{facts.used_rank} of {facts.rank}")
    if len(modules) > _SHOWN_MODULES:
        add(box, "p", f"{len(modules) - _SHOWN_MODULES} more modules are not listed.")
    return render(box)


def _spectrum(cell: Element, values: Sequence[float]) -> None:
    """Bars for the singular values, largest first, relative to the largest."""
    largest = max(values, default=0.0) or 1.0
    shown = values[:_SHOWN_VALUES]
    title = ", ".join(f"{value:.3g}" for value in shown)
    bars = add(cell, "span", class_="lg-spectrum", role="img", aria_label=f"values {title}")
    for value in shown:
        add(bars, "i", style=f"--v:{max(0.0, value / largest):.3f}")
