from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_factories import merged
from generator_factories import base_adapter, byte_base
from torch import Tensor
from transformers import LlamaForCausalLM

from lora_gen.adapter.stacked import stack_adapters
from lora_gen.conditioning.chat import IGNORE, Chat, load_causal_lm
from lora_gen.errors import AdapterMismatchError, BaseModelError
from lora_gen.evaluation.behavior import MAX_NEW_TOKENS, TaskRunner, exact_matches
from recipes.tiny_lm.tokenizer import BOS, NEWLINE_ID, SEPARATOR_ID, build_tokenizer, encode_line

INPUTS = ("Maria Lopez", "a", "12-04-2020 é")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return byte_base(tmp_path_factory.mktemp("base"))


def _model(base: Path) -> Any:
    return LlamaForCausalLM.from_pretrained(base).eval()


def _generated(model: Any, question: list[int], tokens: int) -> list[int]:
    """What Transformers itself decodes greedily."""
    ids = torch.tensor([question])
    found = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False
    )
    return found[0, len(question) :].tolist()


def _lines(chat: Chat, answers: list[list[int]]) -> Any:
    questions = [chat.question(text) for text in INPUTS]
    return chat.pack([(q + a, len(q)) for q, a in zip(questions, answers, strict=True)])


@pytest.mark.parametrize("adapted", [False, True])
def test_exact_matches_are_those_of_greedy_decoding(base: Path, adapted: bool) -> None:
    model, chat = load_causal_lm(base)
    adapter = base_adapter(base)
    factors = stack_adapters([adapter] * len(INPUTS)) if adapted else None
    truth = merged(_model(base), adapter) if adapted else _model(base)
    answers = [_generated(truth, chat.question(text), 5 + i) for i, text in enumerate(INPUTS)]
    assert exact_matches(model, _lines(chat, answers), factors).all()
    for row, answer in enumerate(answers):
        wrong = [*answers]
        wrong[row] = [*answer[:-1], (answer[-1] + 1) % 250]
        found = exact_matches(model, _lines(chat, wrong), factors)
        assert found.tolist() == [i != row for i in range(len(INPUTS))]


@pytest.mark.parametrize("adapted", [False, True])
def test_task_runner_answers_as_transformers_generates(base: Path, adapted: bool) -> None:
    runner, adapter = TaskRunner(base), base_adapter(base)
    truth = merged(_model(base), adapter) if adapted else _model(base)
    found = runner.answer(INPUTS, adapter if adapted else None)
    for text, answer in zip(INPUTS, found, strict=True):
        ids = _generated(truth, runner.chat.question(text), MAX_NEW_TOKENS)
        stop = next((i for i, t in enumerate(ids) if t in (2, NEWLINE_ID)), len(ids))
        assert answer == runner.chat.tokenizer.decode(ids[:stop], skip_special_tokens=True)


def test_task_runner_leaves_the_base_alone_between_two_tokens(base: Path) -> None:
    runner = TaskRunner(base)
    growing = runner.stream("Maria Lopez", base_adapter(base, 3))
    next(growing, None)
    assert runner.answer(["Maria Lopez"]) == TaskRunner(base).answer(["Maria Lopez"])
    assert not any(module._forward_hooks for module in runner.model.modules())


def test_task_runner_streams_the_growing_answer(base: Path) -> None:
    runner = TaskRunner(base)
    parts = list(runner.stream("Maria Lopez"))
    assert parts[-1] == runner.answer(["Maria Lopez"])[0]
    assert len(parts) > 1


def test_task_runner_leaves_the_base_as_it_was(base: Path) -> None:
    runner = TaskRunner(base)
    before = runner.answer(INPUTS)
    assert runner.answer(INPUTS, base_adapter(base)) != before
    assert runner.answer(INPUTS) == before


def test_task_runner_refuses_an_adapter_of_another_base(base: Path) -> None:
    adapter = base_adapter(base)
    odd = type(adapter)(pairs={"model.nowhere": next(iter(adapter.pairs.values()))})
    with pytest.raises(AdapterMismatchError, match=r"`model\.nowhere` is not a module of the base"):
        TaskRunner(base).answer(["a"], odd)


def test_chat_asks_by_the_template_and_shows_shots_as_earlier_lines() -> None:
    chat = Chat(build_tokenizer())
    shot = encode_line("ab", "AB").tolist()
    question = [*encode_line("cd", "").tolist()[:-1]]
    assert chat.question("cd") == [BOS, *question]
    assert chat.question("cd", [("ab", "AB")]) == [BOS, *shot, *question]
    assert question[-1] == SEPARATOR_ID


def test_chat_lines_carry_loss_on_the_answer_and_its_end_alone() -> None:
    chat = Chat(build_tokenizer())
    packed = chat.pack([chat.line("ab", "A"), chat.line("abcd", "ABé")])
    answers = [row[row != IGNORE].tolist() for row in packed.labels]
    wanted = [encode_line("", text).tolist()[1:] for text in ("A", "ABé")]
    assert answers == wanted
    assert packed.input_ids[0].tolist() == [BOS, *encode_line("ab", "A").tolist(), *[0] * 5]
    carried = packed.labels != IGNORE
    assert torch.equal(packed.labels[carried], packed.input_ids[carried])


def test_padding_changes_no_exact_match(base: Path) -> None:
    model, chat = load_causal_lm(base)
    answers = [_generated(_model(base), chat.question(text), 4) for text in INPUTS]
    both: Tensor = exact_matches(model, _lines(chat, answers))
    for row, text in enumerate(INPUTS):
        question = chat.question(text)
        alone = chat.pack([(question + answers[row], len(question))])
        assert bool(exact_matches(model, alone)) == bool(both[row])


def test_chat_refuses_a_tokenizer_without_template() -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(BaseModelError, match="has no chat template, so there is no way to ask"):
        Chat(tokenizer)


def test_load_causal_lm_refuses_a_folder_without_one(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nothing"}')
    with pytest.raises(BaseModelError, match="is not a causal language model that Transformers"):
        load_causal_lm(tmp_path)
