"""What an adapter does, in the words of its card, or of its name where a card says nothing."""

from __future__ import annotations

import re

_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_MARKUP = re.compile(r"```.*?```|<[^>]*>|!\[[^\]]*\]\([^)]*\)|`|\*\*|__", re.DOTALL)
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_SKIPPED = re.compile(
    r"more information needed|this (model|adapter) (card|is a fine-tuned|was trained with)"
    r"|model card for|framework versions|^\s*[-|#>*]|https?://|auto-generated|unsloth",
    re.IGNORECASE,
)
_MAX_TEXT = 300


def describe(card: str, repo: str) -> str:
    """One description of at most 300 characters.

    Args:
        card: Text of the adapter's README.
        repo: Its hub id.
    """
    body = _LINK.sub(r"\1", _MARKUP.sub("", _FRONT_MATTER.sub("", card)))
    for paragraph in re.split(r"\n\s*\n", body):
        text = " ".join(paragraph.split())
        if len(text.split()) >= 4 and not _SKIPPED.search(text):
            return text[:_MAX_TEXT].rsplit(" ", 1)[0] if len(text) > _MAX_TEXT else text
    return words_of(repo)


def words_of(repo: str) -> str:
    """The words in an adapter's name: `acme/task12_fix_dates-lora` is "fix dates"."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", repo.rsplit("/", 1)[-1])
    words = re.split(r"[^A-Za-z0-9]+", name.lower())
    dull = re.compile(
        r"(task)?\d+[bk]?|lora|adapter|qlora|peft|v\d+|r\d+|instruct|chat|mistral|qwen"
    )
    return " ".join(word for word in words if word and not dull.fullmatch(word)) or name
