"""Whether the words of an error are one plain sentence."""

from __future__ import annotations

LONGEST_SENTENCE = 1_000


def judge_sentence(sentence: str) -> list[str]:
    """O1: what is wrong with the words of an error."""
    found = []
    if not sentence.rstrip().endswith("."):
        found.append(f"O1: the sentence has no end: {sentence[:200]}")
    if len(sentence) > LONGEST_SENTENCE:
        found.append(f"O1: the sentence has {len(sentence)} characters")
    if "`" not in sentence:
        found.append(f"O1: the sentence names nothing: {sentence[:200]}")
    if not sentence.isprintable():
        found.append(f"O1: the sentence has characters a terminal obeys: {sentence[:200]!r}")
    if "Traceback" in sentence:
        found.append("O1: the sentence holds a traceback")
    return found
