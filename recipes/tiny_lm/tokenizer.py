"""The byte-level tokenizer of the tiny base: id = 3 + byte, an ordinary Transformers tokenizer."""

from __future__ import annotations

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, FIRST_BYTE = 0, 1, 2, 3
VOCAB_SIZE = 264
SEPARATOR = "\t"
"""Between input and output; a line ends with a newline, so a context is a plain TSV file."""
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['content'] }}"
    "{% if m['role'] == 'user' %}{{ '\\t' }}{% else %}{{ '\\n' }}{% endif %}{% endfor %}"
)
"""A user turn is an input, an assistant turn an output: solved examples are earlier lines."""
NEWLINE_ID = FIRST_BYTE + ord("\n")
SEPARATOR_ID = FIRST_BYTE + ord(SEPARATOR)


def _byte_characters() -> list[str]:
    """Character that stands for each byte in the ByteLevel alphabet."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {b: chr(b) for b in printable}, 0
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(256 + extra)
            extra += 1
    return [table[b] for b in range(256)]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer without merges: every byte is one token, and a text begins with `<bos>`."""
    vocab = {"<pad>": PAD, "<bos>": BOS, "<eos>": EOS}
    vocab |= {char: FIRST_BYTE + byte for byte, char in enumerate(_byte_characters())}
    assert set(ByteLevel.alphabet()) <= set(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", BOS)]
    )
    built = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
    built.chat_template = CHAT_TEMPLATE
    return built


def encode_line(text: str, output: str) -> np.ndarray:
    """Token ids of `text<TAB>output<NEWLINE>`, without `<bos>`."""
    return (
        np.frombuffer(f"{text}{SEPARATOR}{output}\n".encode(), dtype=np.uint8).astype(np.int64)
        + FIRST_BYTE
    )
