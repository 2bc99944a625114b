"""The app in a real browser, as visitors use it."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
from app_factories import (
    AXE,
    HOSTILE,
    TABS,
    answers,
    download,
    generate,
    open_tab,
    peft_answer,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TASK = "extract the domain of an email address, then write it in uppercase"
INPUT = "maria.lopez@acme.org"


def test_downloaded_adapter_answers_the_same_in_peft(opened: Any, tmp_path: Path) -> None:
    generate(opened, TASK, INPUT)
    ((given, base, answer),) = answers(opened, "#answers")
    assert given == INPUT
    assert answer != base
    path = download(opened, "#download", tmp_path)
    assert path.name.startswith("lora-")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    assert peft_answer(tmp_path / path.stem, INPUT) == answer


def test_try_tab_starts_with_the_own_adapter_and_strength_zero_is_the_base(opened: Any) -> None:
    generate(opened, TASK, INPUT)
    ((_, base, _),) = answers(opened, "#answers")
    open_tab(opened, "Try")
    opened.fill("#try-inputs textarea", INPUT)
    opened.fill("#strength input[type=number]", "0")
    opened.press("#strength input[type=number]", "Tab")
    opened.wait_for_selector("#try-adapters .token")
    opened.click("#answer")
    opened.wait_for_selector("#try-answers td.lg-answer")
    assert answers(opened, "#try-answers") == [[INPUT, base, base]]


def test_uploaded_zip_is_inspected(opened: Any, tmp_path: Path) -> None:
    generate(opened, TASK, INPUT)
    path = download(opened, "#download", tmp_path)
    open_tab(opened, "Inspect")
    opened.set_input_files("#inspect-files input[type=file]", path)
    opened.wait_for_selector("#findings .lg-verdict")
    assert "Sound" in opened.inner_text("#findings .lg-verdict")
    assert "vllm: accepts" in opened.inner_text("#findings").lower()
    assert opened.locator("#inspect-modules tbody tr").count() == 28


def test_broken_upload_is_one_sentence(opened: Any, tmp_path: Path) -> None:
    path = tmp_path / "adapter.zip"
    path.write_bytes(b"PK\x03\x04 this is no archive")
    open_tab(opened, "Inspect")
    opened.set_input_files("#inspect-files input[type=file]", path)
    opened.wait_for_selector("#findings .lg-note-bad")
    assert "`adapter.zip` is no zip file" in opened.inner_text("#findings")
    assert not opened.is_visible("#inspect-modules table")


def test_cancel_stops_the_sampler_and_keeps_nothing(opened: Any) -> None:
    opened.click("#advanced button")
    for slider, value in (("#candidates", "8"), ("#steps", "64"), ("#rank", "64")):
        opened.fill(f"{slider} input[type=number]", value)
        opened.press(f"{slider} input[type=number]", "Tab")
    opened.fill("#description textarea", TASK)
    opened.click("#generate")
    opened.wait_for_selector("#shape td")
    opened.click("#cancel")
    opened.wait_for_selector("#status:has-text('Cancelled. Nothing was kept.')")
    assert not opened.is_visible("#download")


def test_one_visitor_does_not_see_the_adapters_of_another(
    opened: Any, browser: Any, app_url: str
) -> None:
    generate(opened, "keep only the digits", "room 12")
    other = browser.new_context().new_page()
    other.goto(app_url)
    open_tab(other, "Try")
    other.click("#try-adapters input")
    other.wait_for_selector("#try-adapters [role=option]")
    assert "digits" not in " ".join(other.locator("#try-adapters [role=option]").all_inner_texts())


@pytest.mark.parametrize("width", [390, 1440])
def test_no_tab_is_wider_than_the_screen(opened: Any, width: int) -> None:
    opened.set_viewport_size({"width": width, "height": 844})
    for name in TABS:
        open_tab(opened, name)
        opened.wait_for_timeout(300)
        assert opened.evaluate("document.documentElement.scrollWidth") <= width, name


def test_texts_of_strangers_stay_text(opened: Any) -> None:
    open_tab(opened, "Zoo")
    opened.wait_for_selector("#zoo-map circle")
    shown = opened.locator("#zoo-list .lg-wording").all_inner_texts()
    assert set(HOSTILE) <= set(shown)
    opened.locator("#zoo-list button[data-verb=inspect]").first.click()
    opened.wait_for_selector("#findings .lg-verdict")
    assert HOSTILE[0] in opened.inner_text("#findings")
    open_tab(opened, "Search")
    opened.fill("#search-text textarea, #search-text input", "click alert script")
    opened.click("#search")
    opened.wait_for_selector("#search-list .lg-wording")


def test_search_result_opens_in_try(opened: Any) -> None:
    open_tab(opened, "Search")
    opened.fill("#search-text textarea, #search-text input", "get the value of a pair")
    opened.click("#search")
    opened.locator("#search-list button[data-verb=try]").first.click()
    opened.wait_for_selector("#try-adapters .token")
    opened.click("#answer")
    opened.wait_for_selector("#try-answers td.lg-answer")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(opened: Any, app_url: str, scheme: str) -> None:
    opened.goto(f"{app_url}?__theme={scheme}")
    opened.wait_for_selector("#generate")
    opened.evaluate(AXE.read_text("utf-8"))
    found = []
    # The name of Gradio's own upload button does not hold its text; we cannot change it.
    rules = (
        "{resultTypes: ['violations'], rules: {'label-content-name-mismatch': {enabled: false}}}"
    )
    for name in TABS:
        open_tab(opened, name)
        opened.wait_for_timeout(500)
        report = opened.evaluate(f"axe.run(document, {rules})")
        for violation in report["violations"]:
            if violation["impact"] in ("serious", "critical"):
                where = [str(node["html"])[:160] for node in violation["nodes"][:3]]
                found.append((name, violation["id"], where))
    assert found == []
