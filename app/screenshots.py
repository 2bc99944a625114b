"""`python -m app.screenshots --out FOLDER`: a picture of each tab and state, after real use.

`--ship docs/app` also copies those that the READMEs show to where they look for them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from app.server import start
from app.settings import AppConfig

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

SIZES: dict[str, ViewportSize] = {
    "wide": {"width": 1440, "height": 1000},
    "phone": {"width": 390, "height": 1400},
}
SCHEMES = ("dark", "light")
"""The last one is what the next tab is used in."""

SHIPPED = {
    "generate.png": "generate-wide-light.png",
    "draw.png": "draw-wide-light.png",
    "zoo.png": "zoo-wide-light.png",
    "phone.png": "generate-phone-light.png",
}
"""The pictures of the READMEs, and which of all they are."""

PATIENCE_MS, SETTLE_MS = 300_000, 600
_PAINT = "scheme => document.body.classList.toggle('dark', scheme === 'dark')"
INPUTS = "maria.lopez@acme.org\nj.doe@example.com"


def empty(page: Page) -> None:
    """The page as a visitor first sees it."""
    page.wait_for_selector("#status .lg-note")


def refused(page: Page) -> None:
    """What a visitor is told who asks for nothing."""
    page.click("#generate")
    page.wait_for_selector(".toast-body, .toast-wrap .error")


def busy(page: Page) -> None:
    """An adapter that takes shape."""
    page.click("#advanced button")
    for slider, value in (("#candidates", "8"), ("#steps", "64"), ("#rank", "64")):
        page.fill(f"{slider} input[type=number]", value)
        page.press(f"{slider} input[type=number]", "Tab")
    page.click("#advanced button")
    page.fill("#description textarea", "keep only the digits")
    page.click("#generate")
    page.wait_for_selector("#shape td")


def draw(page: Page) -> None:
    """A style beside its base; the long run before it is cancelled."""
    page.click("#cancel")
    page.wait_for_selector("#status:has-text('Cancelled')")
    page.reload()
    page.wait_for_selector("#generate")
    page.get_by_role("button", name="retro game pixels").click()
    page.wait_for_function("document.querySelector('#description textarea').value.length > 0")
    page.click("#generate")
    page.wait_for_selector("#answers img")


def generate(page: Page) -> None:
    """The first example, generated and tried."""
    page.locator("#examples button").first.click()
    page.wait_for_function("document.querySelector('#description textarea').value.length > 0")
    page.click("#generate")
    page.wait_for_selector("#answers tbody tr:nth-child(2)")
    page.wait_for_selector("#download")


def compare(page: Page) -> None:
    """The generated adapter at half its strength."""
    open_tab(page, "Try")
    page.wait_for_selector("#try-adapters .token")
    page.fill("#try-inputs textarea", INPUTS)
    page.fill("#strength input[type=number]", "0.5")
    page.press("#strength input[type=number]", "Tab")
    page.click("#answer")
    page.wait_for_selector("#try-answers tbody tr:nth-child(2)")


def inspect(page: Page) -> None:
    """The first adapter of the zoo, opened from the list."""
    open_tab(page, "Zoo")
    page.locator("#zoo-list button[data-verb=inspect]").first.click()
    page.wait_for_selector("#findings .lg-verdict")
    page.wait_for_selector("#inspect-near li")


def zoo(page: Page) -> None:
    """The map, with the generated adapter on it."""
    open_tab(page, "Zoo")
    page.wait_for_selector("#zoo-map .lg-own")


def search(page: Page) -> None:
    """The nearest descriptions."""
    open_tab(page, "Search")
    page.fill("#search-text textarea, #search-text input", "write a date the German way")
    page.click("#search")
    page.wait_for_selector("#search-list .lg-wording")


def about(page: Page) -> None:
    """The report."""
    open_tab(page, "About")
    page.wait_for_selector("#report .lg-row")


STEPS: dict[str, Callable[[Page], None]] = {
    "empty": empty,
    "refused": refused,
    "busy": busy,
    "draw": draw,
    "generate": generate,
    "try": compare,
    "inspect": inspect,
    "zoo": zoo,
    "search": search,
    "about": about,
}


def open_tab(page: Page, name: str) -> None:
    """Go to a tab."""
    page.get_by_role("tab", name=name, exact=True).click()


@contextmanager
def launch() -> Iterator[Browser]:
    """Debian's chromium; root needs it without its sandbox."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-dev-shm-usage"],
        )
        yield browser
        browser.close()


def take(url: str, out: Path) -> list[Path]:
    """Pictures of the app at `url`: each tab, wide and narrow, light and dark."""
    made: list[Path] = []
    with launch() as browser:
        for width, size in SIZES.items():
            page = browser.new_page(viewport=size)
            page.set_default_timeout(PATIENCE_MS)
            page.goto(url)
            page.wait_for_selector("#generate")
            for name, step in STEPS.items():
                step(page)
                for scheme in SCHEMES:
                    page.evaluate(_PAINT, scheme)
                    page.wait_for_timeout(SETTLE_MS)
                    made.append(out / f"{name}-{width}-{scheme}.png")
                    page.screenshot(path=made[-1])
            page.close()
    return made


def main(argv: list[str] | None = None) -> int:
    """Start the app unless `--url` names one, and take the pictures."""
    parser = argparse.ArgumentParser(prog="python -m app.screenshots", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/screenshots"))
    parser.add_argument("--ship", type=Path, help="folder for those that the READMEs show")
    parser.add_argument("--url", help="an app that runs already")
    arguments = parser.parse_args(argv)
    out, ship = arguments.out.resolve(), (arguments.ship or arguments.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    running = None if arguments.url else start(AppConfig(port=0))
    try:
        for path in take(arguments.url or (running.url if running else ""), out):
            print(path)
        for name, source in SHIPPED.items() if arguments.ship else ():
            shutil.copyfile(out / source, ship / name)
    finally:
        if running is not None:
            running.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
