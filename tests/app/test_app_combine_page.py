"""The Combine tab and its endpoints, as programs call them and as visitors use them."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
from app_factories import answers, download, open_tab, tab_to

from lora_gen import load_adapter

pytestmark = pytest.mark.slow

RANK = 4


@pytest.fixture(scope="module")
def client(app_url: str) -> Any:
    gradio_client = pytest.importorskip("gradio_client")
    return gradio_client.Client(app_url, verbose=False)


@pytest.fixture(scope="module")
def zoo_ids(client: Any) -> list[str]:
    listed = client.predict(api_name="/list_adapters")
    return [one["id"] for one in listed if one["id"].startswith("zoo:")]


def test_merged_adapter_answers_by_its_id(client: Any, zoo_ids: list[str]) -> None:
    options = (zoo_ids[:2], [0.5, 0.5], "linear", 0)
    made, path = client.predict(*options, api_name="/merge_adapters")
    assert made["relative_error"] == pytest.approx(0, abs=1e-5)
    assert Path(path).name == f"lora-{made['id']}.zip"
    (row,) = client.predict([made["id"]], ["port=6362"], 1.0, api_name="/answer_inputs")
    assert len(row) == 3


def test_compressed_adapter_says_what_it_lost(client: Any, zoo_ids: list[str]) -> None:
    made, _ = client.predict(zoo_ids[0], 1, 0, api_name="/compress_adapter")
    assert made["rank"] == 1
    assert 0 < made["relative_error"] < 1


def test_adapter_between_two_has_both_ranks(client: Any, zoo_ids: list[str]) -> None:
    options = (zoo_ids[0], zoo_ids[1], 0.5, 0)
    made, _ = client.predict(*options, api_name="/interpolate_adapters")
    assert made["rank"] == 2 * RANK


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (([], None, "linear", 0), "0 adapters are chosen, but this takes 2 to 8"),
        ((["zoo:none", "zoo:other"], None, "linear", 0), "zoo"),
        ((["a", "b"], None, "median", 0), "median"),
    ],
)
def test_bad_merge_is_a_sentence(client: Any, given: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(Exception, match=sentence):
        client.predict(*given, api_name="/merge_adapters")


def test_another_client_cannot_combine_the_adapter(
    client: Any, app_url: str, zoo_ids: list[str]
) -> None:
    from gradio_client import Client

    made, _ = client.predict(zoo_ids[0], 1, 0, api_name="/compress_adapter")
    other = Client(app_url, verbose=False)
    with pytest.raises(Exception, match="is not an adapter of this visit"):
        other.predict(made["id"], 1, 0, api_name="/compress_adapter")


def _choose(page: Any, count: int) -> None:
    page.click("#combine-adapters input")
    for _ in range(count):
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
    page.keyboard.press("Escape")


@pytest.mark.browser
def test_two_zoo_adapters_are_merged_tried_and_taken_home(opened: Any, tmp_path: Path) -> None:
    open_tab(opened, "Combine")
    _choose(opened, 2)
    opened.fill("#combine-inputs textarea", "port=6362")
    opened.click("#combine")
    opened.wait_for_selector("#combine-answers td.lg-answer")
    assert len(answers(opened, "#combine-answers")[0]) == 5
    path = download(opened, "#combine-download", tmp_path)
    zipfile.ZipFile(path).extractall(tmp_path / "out")
    (folder,) = (tmp_path / "out").iterdir()
    assert load_adapter(folder).max_rank == 2 * RANK


@pytest.mark.browser
def test_combine_tab_fits_a_phone_and_works_by_keyboard(opened: Any) -> None:
    opened.set_viewport_size({"width": 390, "height": 844})
    open_tab(opened, "Combine")
    _choose(opened, 2)
    tab_to(opened, "#combine")
    opened.keyboard.press("Enter")
    opened.wait_for_selector("#combine-download")
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
