import json

import pytest
from cli_factories import lora_gen
from retrieval_factories import open_bag, searchable_zoo
from zoo_factories import zoo_adapter

from lora_gen.adapter.io import save_adapter
from lora_gen.errors import MissingDependencyError, ZooError
from lora_gen.retrieval.map import map_zoo
from lora_gen.zoo.store import Zoo


@pytest.fixture
def ids(tmp_path):
    return searchable_zoo(tmp_path / "zoo")


def test_known_adapter_lies_on_its_entry(tmp_path, ids):
    with open_bag(tmp_path) as index:
        found = map_zoo(index, others={"mine": zoo_adapter(2, rank=3)})
    points = {point.name: (point.x, point.y) for point in found.points}
    assert set(points) == {*ids, "mine"}
    assert points["mine"] == pytest.approx(points[ids[2]], abs=1e-5)
    assert 0 < found.shown[1] <= found.shown[0] <= 1


def test_map_by_text_puts_like_descriptions_together(tmp_path, ids):
    with open_bag(tmp_path) as index:
        points = map_zoo(index, column="text").points
    spot = {point.name: (point.x, point.y) for point in points}

    def distance(i, j):
        return sum((a - b) ** 2 for a, b in zip(spot[ids[i]], spot[ids[j]], strict=True))

    assert distance(0, 1) < distance(0, 2)  # both read "the word"


def test_map_refuses_what_it_cannot_place(tmp_path, ids):
    with open_bag(tmp_path) as index:
        with pytest.raises(MissingDependencyError, match="needs a trained adapter encoder"):
            map_zoo(index, column="weights")
        with pytest.raises(ZooError, match="has no place for an adapter alone"):
            map_zoo(index, column="text", others={"mine": zoo_adapter(0)})


def test_map_of_too_few_adapters_is_refused(tmp_path):
    Zoo.open(tmp_path / "zoo", create=True).close()
    with open_bag(tmp_path) as index, pytest.raises(ZooError, match="but a map needs 3"):
        map_zoo(index)


def test_map_is_written_as_picture_and_as_data(tmp_path, ids, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("LORA_GEN_CACHE", str(tmp_path / "cache"))
    mine = save_adapter(zoo_adapter(1, rank=2), tmp_path / "mine", exact=True)
    picture = tmp_path / "map.png"
    monkeypatch.setattr(
        "lora_gen.retrieval.vectors.Vectorizer", type(open_bag(tmp_path).vectorizer)
    )
    options = ["--zoo", tmp_path / "zoo", "--adapter", mine, "--out", picture, "--json"]
    result = lora_gen("map", *options)
    assert result.exit_code == 0
    assert len(json.loads(result.stdout)["points"]) == 5
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_map_without_an_output_is_refused(tmp_path):
    result = lora_gen("map", "--zoo", tmp_path)
    assert result.exit_code == 2
    assert "The map goes nowhere" in result.stderr
