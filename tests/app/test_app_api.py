"""The app's endpoints, called as programs call them."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

PAIRS = "get the value from a key=value pair"


@pytest.fixture(scope="module")
def client(app_url: str) -> Any:
    gradio_client = pytest.importorskip("gradio_client")
    return gradio_client.Client(app_url, verbose=False)


def _generate(client: Any, description: str = PAIRS, candidates: int = 1) -> Any:
    options = ("tiny_lm", candidates, 4, 4, 1.0, 0)
    return client.predict(description, *options, api_name="/generate_adapters")


def test_generated_adapter_answers_by_its_id(client: Any) -> None:
    made, path = _generate(client, candidates=2)
    assert [one["rank"] for one in made["adapters"]] == [4, 4]
    assert Path(path).name == f"lora-{made['adapters'][0]['id']}.zip"
    ids = [one["id"] for one in made["adapters"]]
    (row,) = client.predict(ids[:1], ["port=6362"], 1.0, api_name="/answer_inputs")
    assert row["input"] == "port=6362"
    assert len(row) == 3
    assert client.predict(api_name="/list_adapters")[0]["id"] in ids


def test_same_seed_gives_the_same_bytes(client: Any) -> None:
    first, second = _generate(client)[0], _generate(client)[0]
    assert first["adapters"][0]["norm"] == second["adapters"][0]["norm"]


def test_endpoints_are_listed_with_their_types(client: Any) -> None:
    found = client.view_api(return_format="dict")["named_endpoints"]
    assert sorted(found) == [
        "/answer_inputs",
        "/cancel_generation",
        "/compress_adapter",
        "/draw_captions",
        "/generate_adapters",
        "/inspect_adapter",
        "/interpolate_adapters",
        "/list_adapters",
        "/merge_adapters",
        "/search_zoo",
        "/similar_adapters",
    ]


def test_style_is_drawn_beside_its_base_and_answers_nothing_in_words(client: Any) -> None:
    options = ("tiny_sd", 1, 4, 2, 1.0, 0)
    made, _ = client.predict("retro game pixels", *options, api_name="/generate_adapters")
    new = [made["adapters"][0]["id"]]
    path = client.predict(new, ["a green star"], 1.0, api_name="/draw_captions")
    assert Path(path).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(Exception, match="draws pictures"):
        client.predict(new, ["a green star"], 1.0, api_name="/answer_inputs")


def test_inspect_endpoint_reports_on_an_upload(client: Any) -> None:
    from gradio_client import handle_file

    path = _generate(client)[1]
    found = client.predict([handle_file(path)], api_name="/inspect_adapter")
    assert found["errors"] == []
    assert found["fits_base"] is True
    assert found["nearest"]


def test_search_endpoint_finds_the_nearest_description(client: Any) -> None:
    found = client.predict(PAIRS, 3, api_name="/search_zoo")
    assert len(found) == 3
    assert found[0]["cosine"] >= found[1]["cosine"] >= found[2]["cosine"]


def test_similar_endpoint_finds_a_zoo_adapter_by_its_own_weights(client: Any) -> None:
    listed = client.predict(api_name="/list_adapters")
    one = next(found["id"] for found in listed if found["id"].startswith("zoo:"))
    found = client.predict(one, 2, api_name="/similar_adapters")
    assert found[0]["id"] == one
    assert found[0]["cosine"] == pytest.approx(1, abs=1e-3)


def test_cancel_endpoint_ends_a_run_and_keeps_nothing(app_url: str) -> None:
    from gradio_client import Client

    client = Client(app_url, verbose=False)
    job = client.submit(PAIRS, "tiny_lm", 8, 64, 64, 1.0, 0, api_name="/generate_adapters")
    next(iter(job))
    assert client.predict(api_name="/cancel_generation") == 1
    with pytest.raises(Exception, match=r"Cancelled\. Nothing was kept"):
        job.result()
    listed = client.predict(api_name="/list_adapters")
    assert all(found["id"].startswith("zoo:") for found in listed)


@pytest.mark.parametrize(
    ("description", "sentence"),
    [
        ("   ", "The description is empty"),
        ("x" * 4001, "has 4,001 characters"),
        ("a\0", "which is not text"),
    ],
)
def test_bad_description_is_a_sentence(client: Any, description: str, sentence: str) -> None:
    with pytest.raises(Exception, match=sentence):
        _generate(client, description)


@pytest.mark.parametrize("steps", [0, 65, 1e9, "many"])  # the client itself refuses NaN
def test_bad_number_is_a_sentence(client: Any, steps: Any) -> None:
    options = (PAIRS, "tiny_lm", 1, 4, steps, 1.0, 0)
    with pytest.raises(Exception, match=r"steps|number"):
        client.predict(*options, api_name="/generate_adapters")


def test_another_client_cannot_use_the_adapter(client: Any, app_url: str) -> None:
    from gradio_client import Client

    made, _ = _generate(client)
    other = Client(app_url, verbose=False)
    with pytest.raises(Exception, match="is not an adapter of this visit"):
        other.predict([made["adapters"][0]["id"]], ["a=b"], 1.0, api_name="/answer_inputs")


def test_third_heavy_request_of_a_session_is_told_to_wait(app_url: str) -> None:
    httpx = pytest.importorskip("httpx")
    body = {"data": [PAIRS, "tiny_lm", 8, 4, 64, 1.0, 0], "session_hash": "third-request"}
    url = f"{app_url}gradio_api/call/generate_adapters"
    answers = [httpx.post(url, json=body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert "2 of your requests are running" in answers[2].json()["detail"]


def test_other_host_is_refused(app_url: str) -> None:
    httpx = pytest.importorskip("httpx")
    answer = httpx.get(app_url, headers={"host": "evil.example"})
    assert answer.status_code == 421
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
