import json
from pathlib import Path

import pytest
import torch
from cli_factories import FakePipeline, fake_models, lora_gen, tiny_base

from lora_gen.adapter.io import load_adapter


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    return fake_models(monkeypatch)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_base(tmp_path / "base")


def test_generate_shows_what_base_and_adapter_answer(
    pipeline: FakePipeline, base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = lora_gen(
        "generate", "shout", "--base", base, "--out", out, "--try", "ab c", "--try", "d"
    )
    assert result.exit_code == 0, result.output
    for shown in ("base + adapter", "ab c?", "AB C", "D", f"Saved {out}"):
        assert shown in result.stdout.replace("\n", "")
    assert load_adapter(out).base == str(base)


def test_generate_passes_what_was_asked_for(
    pipeline: FakePipeline, base: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_text("one\ntwo\n")
    (tmp_path / "pairs.csv").write_text("input,output\na,A\n")
    asked = ["--rank", 3, "--target", "q_proj, v_proj", "--steps", 5, "--guidance", 2, "--seed", 9]
    files = ["--prompts", tmp_path / "in.txt", "--examples", tmp_path / "pairs.csv"]
    lora_gen("generate", "shout", *asked, *files, "--base", base, "--out", tmp_path / "out")
    call = pipeline.call
    assert (call["text"], call["prompts"]) == ("shout", ["one", "two"])
    assert call["examples"] == [("a", "A")]
    assert (call["rank"], call["targets"]) == (3, ["q_proj", "v_proj"])
    assert (call["num_inference_steps"], call["guidance_scale"]) == (5, 2.0)
    assert call["generator"].initial_seed() == 9


def test_generate_json_is_one_document(pipeline: FakePipeline, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = lora_gen("generate", "x", "--base", base, "--out", out, "--try", "a", "--json")
    report = json.loads(result.stdout)
    assert report["adapters"][0]["folder"] == str(out)
    assert report["adapters"][0]["answers"] == [{"input": "a", "output": "A", "base_output": "a?"}]
    assert report["adapters"][0]["provenance"]["seed"] == 0


def test_generate_same_seed_gives_same_bytes(
    pipeline: FakePipeline, base: Path, tmp_path: Path
) -> None:
    for name, seed in (("one", 5), ("again", 5), ("other", 6)):
        lora_gen("generate", "x", "--base", base, "--seed", seed, "--out", tmp_path / name)
    one, again, other = (
        (tmp_path / name / "adapter_model.safetensors").read_bytes()
        for name in ("one", "again", "other")
    )
    assert one == again
    assert one != other


def test_generate_writes_numbered_folders_when_several_are_asked_for(
    pipeline: FakePipeline, base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = lora_gen("generate", "x", "--base", base, "--num", 2, "--out", out, "--try", "a")
    assert result.exit_code == 0, result.output
    first, second = (load_adapter(out / name) for name in ("0", "1"))
    assert not torch.equal(
        *(next(iter(adapter.pairs.values())).lora_a for adapter in (first, second))
    )


def test_generate_overwrites_only_when_told(
    pipeline: FakePipeline, base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    lora_gen("generate", "x", "--base", base, "--num", 3, "--out", out)
    pipeline.call = {}
    refused = lora_gen("generate", "x", "--base", base, "--num", 2, "--out", out)
    assert refused.exit_code == 2
    assert "already exists. Pass `--overwrite`" in refused.stderr
    assert pipeline.call == {}
    lora_gen("generate", "x", "--base", base, "--num", 2, "--out", out, "--overwrite")
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["0", "1"]


def test_generate_never_replaces_a_folder_of_others(
    pipeline: FakePipeline, base: Path, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    result = lora_gen("generate", "x", "--base", base, "--out", tmp_path / "photos", "--overwrite")
    assert result.exit_code == 2
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"cat"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "There is nothing to generate from. Describe the task as TEXT"),
        (("  ",), "`text` is empty. Describe the task in a few words."),
        (("a" * 4001,), "`text` has 4,001 characters"),
        (("x", "--prompts", "none.txt"), "`none.txt` cannot be read"),
        (("x", "--seed", "-1"), "--seed"),
        (("x", "--seed", "nan"), "--seed"),
        (("x", "--rank", "0"), "--rank"),
        (("x", "--num", "65"), "--num"),
        (("x", "--steps", "1e9"), "--steps"),
        (("x", "--guidance", "nan"), "--guidance"),
        (("x", "--guidance", "inf"), "--guidance"),
    ],
)
def test_generate_refuses_with_one_sentence_and_exit_code_2(
    pipeline: FakePipeline, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    result = lora_gen("generate", *arguments, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert pipeline.call == {}


def test_generate_reports_an_error_as_json_when_asked(
    pipeline: FakePipeline, tmp_path: Path
) -> None:
    result = lora_gen("generate", " ", "--out", tmp_path / "out", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout) == {
        "error": {
            "code": "CONFIG",
            "message": "`text` is empty. Describe the task in a few words.",
        }
    }


def test_generate_card_shows_the_request_as_inert_text(
    pipeline: FakePipeline, base: Path, tmp_path: Path
) -> None:
    text = "``<script>alert(1)</script>\n# heading `x`"
    lora_gen("generate", text, "--base", base, "--out", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    (line,) = (line for line in card.splitlines() if "script" in line)
    assert line == "- text: `` \"''<script>alert(1)</script>\\n# heading 'x'\" ``"
    assert f'base_model: "{base}"' in card
    record = json.loads((tmp_path / "out" / "lora_gen.json").read_text())
    assert record == {"text": text, "base": str(base), "seed": 0}
