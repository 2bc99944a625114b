from __future__ import annotations

import pytest

from lora_gen.adapter.named_base import resolve_named_base
from lora_gen.errors import BaseModelError


def test_named_base_may_be_an_embedded_one():
    assert (resolve_named_base("tiny_lm") / "config.json").is_file()


def test_named_base_may_be_the_absolute_folder_of_a_model(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert resolve_named_base(str(tmp_path)) == tmp_path


def test_named_base_is_no_other_path(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    names = ["model", "./model", str(tmp_path / "empty"), f"{tmp_path}/empty/../model"]
    for name in [*names, f"/{tmp_path}/model", "", ".", "~"]:
        with pytest.raises(BaseModelError, match="which is not on this machine"):
            resolve_named_base(name)


def test_named_base_is_not_the_adapter_itself(tmp_path):
    for name in ("config.json", "adapter_config.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(BaseModelError, match="which is not on this machine"):
        resolve_named_base(str(tmp_path))


def test_named_base_is_never_downloaded(monkeypatch):
    import huggingface_hub

    def refused(*arguments, **options):
        assert options["local_files_only"]
        raise OSError("not in the cache")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refused)
    with pytest.raises(BaseModelError, match="names is never downloaded"):
        resolve_named_base("attacker/model")
