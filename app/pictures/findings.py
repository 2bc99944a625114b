"""An inspection as a page shows it: a verdict, facts, sentences, and the runtimes."""

from __future__ import annotations

from app.pictures.markup import Element, add, element, render
from app.service.inspection import Inspection

_FITS = {None: "not checked", True: "yes", False: "no"}


def findings(inspection: Inspection) -> str:
    """Markup of the verdict, the facts, the warnings and the runtimes' verdicts."""
    box = element("div", class_="lg-findings")
    state = "bad" if inspection.errors else "warn" if _doubtful(inspection) else "good"
    top = add(box, "p", class_=f"lg-verdict lg-{state}", role="status")
    add(top, "strong", inspection.verdict)
    facts = add(box, "dl", class_="lg-facts")
    for name, value in (
        ("adapter", inspection.title),
        ("format", inspection.format),
        ("base", inspection.base),
        ("fits the base", _FITS[inspection.fits_base]),
        ("rank", str(inspection.rank)),
        ("modules", str(len(inspection.modules))),
        ("values", f"{inspection.parameters:,}"),
        ("norm of the change", f"{inspection.norm:.4g}"),
        ("predicted quality", str(inspection.quality)),
    ):
        pair = add(facts, "div")
        add(pair, "dt", name)
        add(pair, "dd", value)
    _sentences(box, "Errors", inspection.errors)
    _sentences(box, "Warnings", inspection.warnings)
    if inspection.runtimes:
        add(box, "h4", "Where it runs")
        chips = add(box, "ul", class_="lg-chips")
        for runtime, accepts, why in inspection.runtimes:
            chip = add(chips, "li", class_="lg-yes" if accepts else "lg-no", title=why)
            add(chip, "b", "✓" if accepts else "✗", aria_hidden="true")
            add(chip, "span", f"{runtime}: {'accepts' if accepts else 'refuses'}")
            if why:
                add(chip, "small", why)
    return render(box)


def note(text: str, *, kind: str = "empty") -> str:
    """Markup of a short note: `empty`, `busy`, `good` or `bad`."""
    return render(element("p", text, class_=f"lg-note lg-note-{kind}", role="status"))


def _doubtful(inspection: Inspection) -> bool:
    return bool(inspection.warnings) or inspection.fits_base is not True


def _sentences(box: Element, title: str, sentences: tuple[str, ...]) -> None:
    if sentences:
        add(box, "h4", title)
        listed = add(box, "ul", class_="lg-sentences")
        for sentence in sentences:
            add(listed, "li", sentence)
