"""Search, zoo and keyboard in a real browser, as visitors use them."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
from app_factories import answers, download, generate, open_tab, tab_to

from lora_gen import load_adapter

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TASK = "get the value from a key=value pair"
INPUT = "port=6362"


def _generated(page: Any, folder: Path) -> Path:
    generate(page, TASK, INPUT)
    return download(page, "#download", folder)


def test_search_by_an_uploaded_adapter_opens_a_result_in_inspect(
    opened: Any, tmp_path: Path
) -> None:
    path = _generated(opened, tmp_path)
    open_tab(opened, "Search")
    opened.click("#search-by-adapter button")
    opened.set_input_files("#search-files input[type=file]", path)
    opened.wait_for_selector("#search-list .lg-wording")
    assert opened.locator("#search-list li").count() == 10
    opened.locator("#search-list button[data-verb=inspect]").first.click()
    opened.wait_for_selector("#findings .lg-verdict")


def test_inspect_tells_the_predicted_quality_and_leads_to_a_similar_adapter(
    opened: Any,
) -> None:
    open_tab(opened, "Zoo")
    opened.locator("#zoo-list button[data-verb=inspect]").nth(5).click()
    opened.wait_for_selector("#findings .lg-verdict")
    assert "predicted quality" in opened.inner_text("#findings")
    opened.locator("#inspect-near button[data-verb=try]").nth(1).click()
    opened.wait_for_selector("#try-adapters .token")
    assert opened.input_value("#try-inputs textarea")


def test_candidates_are_listed_with_quality_and_nearest_adapter(opened: Any) -> None:
    opened.click("#advanced button")
    opened.fill("#candidates input[type=number]", "2")
    opened.press("#candidates input[type=number]", "Tab")
    generate(opened, TASK, INPUT)
    rows = answers(opened, "#made")
    assert [row[0] for row in rows] == ["#1", "#2"]
    assert all(row[1] and row[2] and -1 <= float(row[3]) <= 1 for row in rows)


def test_several_adapters_answer_at_once(opened: Any) -> None:
    open_tab(opened, "Try")
    opened.click("#try-adapters input")
    for number in (4, 5):
        opened.locator("#try-adapters [role=option]").nth(number).click()
    opened.keyboard.press("Tab")
    opened.fill("#try-inputs textarea", INPUT)
    opened.check("#try-blend input")
    opened.click("#answer")
    opened.wait_for_selector("#try-answers td.lg-answer")
    assert len(answers(opened, "#try-answers")[0]) == 5


def test_exported_entries_load_again(opened: Any, tmp_path: Path) -> None:
    open_tab(opened, "Zoo")
    opened.get_by_role("button", name="Take adapters home").click()
    opened.click("#zoo-chosen input")
    opened.locator("#zoo-chosen [role=option]").nth(4).click()
    opened.keyboard.press("Tab")
    opened.click("#zoo-pack")
    opened.wait_for_selector("#zoo-export")
    path = download(opened, "#zoo-export", tmp_path)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    (folder,) = (entry.parent for entry in tmp_path.glob("*/entry.json"))
    assert load_adapter(folder).base == "tiny_lm"


def test_upload_to_the_zoo_waits_in_quarantine(opened: Any, tmp_path: Path) -> None:
    path = _generated(opened, tmp_path)
    open_tab(opened, "Zoo")
    opened.get_by_role("button", name="Add an adapter").click()
    opened.set_input_files("#zoo-files input[type=file]", path)
    opened.fill("#zoo-description textarea, #zoo-description input", TASK)
    opened.wait_for_selector("#zoo-files .file-preview, #zoo-files table")
    opened.click("#zoo-add")
    opened.wait_for_selector("#zoo-added .lg-note")
    assert "Kept in quarantine" in opened.inner_text("#zoo-added")


def test_keyboard_alone_leads_from_a_description_to_the_download(opened: Any) -> None:
    keys = opened.keyboard
    tab_to(opened, "#description textarea")
    keys.type(TASK)
    tab_to(opened, "#generate-inputs textarea")
    keys.type(INPUT)
    tab_to(opened, "#generate")
    keys.press("Enter")
    opened.wait_for_selector("#answers td.lg-answer")
    tab_to(opened, "#download")
    with opened.expect_download() as waiting:
        keys.press("Enter")
    assert waiting.value.suggested_filename.startswith("lora-")


def test_keyboard_alone_reaches_every_tab_and_opens_a_search_result(opened: Any) -> None:
    keys = opened.keyboard
    tab_to(opened, "#tab-search-button", key="Shift+Tab")
    keys.press("Enter")
    tab_to(opened, "#search-text textarea, #search-text input")
    keys.type("get the value of a pair")
    tab_to(opened, "#search")
    keys.press("Enter")
    opened.wait_for_selector("#search-list .lg-wording")
    tab_to(opened, "#search-list button[data-verb=try]")
    keys.press("Enter")
    opened.wait_for_selector("#try-adapters .token")
