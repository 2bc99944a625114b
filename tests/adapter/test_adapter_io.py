from __future__ import annotations

import pytest
import torch
from adapter_factories import plain_tensors, random_pair, raw_peft_folder

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.io import load_adapter, recognize, save_adapter
from lora_gen.errors import AdapterFormatError, AdapterMismatchError, UnsafeFileError
from lora_gen.safetensors_header import serialize_tensors


def weights(path, tensors):
    path.write_bytes(serialize_tensors(tensors))
    return path


def test_peft_folder_is_recognized_by_folder_and_by_file(tmp_path):
    folder = raw_peft_folder(tmp_path)
    assert recognize(folder) == ("peft", folder)
    assert recognize(folder / "adapter_model.safetensors") == ("peft", folder)
    assert set(load_adapter(str(folder / "adapter_model.safetensors")).pairs) == {"q"}


def test_save_returns_the_folder(tmp_path):
    adapter = Adapter(pairs={"q": random_pair(3, 4)}, base="acme/tiny")
    assert save_adapter(adapter, str(tmp_path / "out")) == tmp_path / "out"


def test_save_refuses_an_unknown_format(tmp_path):
    adapter = Adapter(pairs={"q": random_pair(3, 4)}, base="acme/tiny")
    with pytest.raises(AdapterFormatError, match="`gguf` is not a format that is written"):
        save_adapter(adapter, tmp_path / "out", format="gguf")


def test_absent_path_is_refused(tmp_path):
    with pytest.raises(AdapterFormatError, match=r"does not exist\. Pass an adapter folder"):
        load_adapter(tmp_path / "absent")


def test_two_candidates_are_refused(tmp_path):
    for name in ("a", "b"):
        weights(tmp_path / f"{name}.safetensors", {"x": torch.ones(2)})
    with pytest.raises(AdapterMismatchError, match=r"has 2 weight files \(`a.safetensors`"):
        load_adapter(tmp_path)


@pytest.mark.parametrize("name", ["x.bin", "x.pt", "x.ckpt"])
def test_pickles_are_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UnsafeFileError, match="may be a pickle, which is never opened"):
        load_adapter(tmp_path / name)
    with pytest.raises(UnsafeFileError, match=f"has only `{name}`"):
        load_adapter(tmp_path)


def test_empty_folder_is_refused(tmp_path):
    with pytest.raises(AdapterFormatError, match=r"no `adapter_config.json` and no .safetensors"):
        load_adapter(tmp_path)


def test_peft_weights_without_config_are_refused(tmp_path):
    path = weights(tmp_path / "x.safetensors", plain_tensors())
    with pytest.raises(AdapterFormatError, match="beside it tells its scaling"):
        load_adapter(path)


def test_file_without_lora_keys_is_refused(tmp_path):
    path = weights(tmp_path / "x.safetensors", {"model.weight": torch.ones(2)})
    with pytest.raises(AdapterFormatError, match="no keys of PEFT, Diffusers or kohya"):
        load_adapter(path)
