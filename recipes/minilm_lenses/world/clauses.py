"""The clause in the middle of a sentence: who does what, when, how surely, in which order."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

BE = {
    "past": {"1s": "was", "2": "were", "3s": "was", "p": "were"},
    "present": {"1s": "am", "2": "are", "3s": "is", "p": "are"},
}
CATENATIVES = {
    "attempt": ("try tried tried trying", "struggle struggled struggled struggling"),
    "refusal": ("refuse refused refused refusing", "decline declined declined declining"),
    "plan": ("plan planned planned planning", "prepare prepared prepared preparing"),
    "hope": ("hope hoped hoped hoping", "long longed longed longing"),
    "failure": ("fail failed failed failing", "neglect neglected neglected neglecting"),
    "pretense": ("pretend pretended pretended pretending", "claim claimed claimed claiming"),
    "threat": ("threaten threatened threatened threatening", "vow vowed vowed vowing"),
}
NEGATIONS = {
    "none": ("",),
    "plain": ("not", "n't"),
    "absolute": ("never", "at no point", "under no circumstances"),
    "partial": ("hardly", "barely", "rarely", "seldom", "scarcely"),
}
TENSES = ("past", "present", "future")
ASPECTS = ("simple", "progressive", "perfect")
EXCLAMATIONS = (
    *("wow,", "just imagine,", "how strange that", "what a surprise that", "how funny that"),
    *("good heavens,", "how typical that", "I can't believe that"),
)
MOODS = ("statement", "question", "why", "exclamation")


@dataclass(frozen=True)
class Verb:
    """Forms of a verb, each perhaps with words behind it, as in `look at`."""

    base: str
    past: str
    participle: str
    ing: str
    after: str = ""

    @classmethod
    def parse(cls, text: str) -> Verb:
        """`take took taken taking` or `look looked looked looking at`."""
        base, past, participle, ing, *after = text.split()
        return cls(base, past, participle, ing, " ".join(after))

    @property
    def third(self) -> str:
        """Third person singular, present."""
        if self.base in ("have", "do", "go"):
            return {"have": "has", "do": "does", "go": "goes"}[self.base]
        if self.base.endswith(("s", "sh", "ch", "x", "z")):
            return f"{self.base}es"
        if self.base.endswith("y") and self.base[-2] not in "aeiou":
            return f"{self.base[:-1]}ies"
        return f"{self.base}s"


@dataclass(frozen=True)
class Subject:
    """Who does it, and the verb's agreement: `1s`, `2`, `3s` or `p`."""

    text: str
    agreement: str


def chain(verb: Verb, subject: Subject, tense: str, aspect: str) -> list[str]:
    """Auxiliaries and the verb, the finite one first."""
    agreement = subject.agreement
    if aspect == "simple":
        if tense == "future":
            return ["will", verb.base]
        if tense == "past":
            return [verb.past]
        return [verb.third if agreement == "3s" else verb.base]
    auxiliary, form = ("be", verb.ing) if aspect == "progressive" else ("have", verb.participle)
    if tense == "future":
        return ["will", auxiliary, form]
    if auxiliary == "be":
        return [BE[tense][agreement], form]
    has = "has" if agreement == "3s" else "have"
    return ["had" if tense == "past" else has, form]


def _with_do(words: list[str], verb: Verb, subject: Subject, tense: str) -> list[str]:
    """A chain whose first word is an auxiliary."""
    if len(words) > 1:
        return words
    do = "did" if tense == "past" else "does" if subject.agreement == "3s" else "do"
    return [do, verb.base]


def predicate(
    subject: Subject, verb: Verb, choice: Mapping[str, str], rng: random.Random
) -> tuple[str, str]:
    """(auxiliary for the front of a question or nothing, the rest), the stance's verb included."""
    first, tail = verb, [verb.after]
    if choice["stance"] != "none":
        first = Verb.parse(rng.choice(CATENATIVES[choice["stance"]]))
        tail = ["to", verb.base, verb.after]
    words = chain(first, subject, choice["tense"], choice["aspect"])
    negation = rng.choice(NEGATIONS[choice["negation"]])
    asks = choice["mood"] in ("question", "why")
    if negation in ("not", "n't") or asks:
        words = _with_do(words, first, subject, choice["tense"])
    head, rest = words[0], words[1:]
    if negation == "n't" and head != "am":
        negated = {"will": "won't"}.get(head, f"{head}n't")
        if asks:
            return negated, _join([*rest, *tail])
        return "", _join([negated, *rest, *tail])
    negation = "not" if negation == "n't" else negation
    if asks:
        return head, _join([negation, *rest, *tail])
    if not rest:
        return "", _join([negation, head, *tail])
    return "", _join([head, negation, *rest, *tail])


def clause(
    subject: Subject, verb: Verb, thing: str, choice: Mapping[str, str], rng: random.Random
) -> str:
    """The clause without its end, first letter as it falls.

    Args:
        subject: Who.
        verb: What they do.
        thing: The object, a noun phrase.
        choice: Values of `tense`, `aspect`, `negation`, `stance`, `mood` and `focus`.
        rng: Draws what the values leave open.
    """
    front, rest = predicate(subject, verb, choice, rng)
    if choice["mood"] == "why":
        asks = rng.choice(("why", "for what reason", "why on earth"))
        return _join([asks, front, subject.text, rest, thing])
    if choice["mood"] == "question":
        return _join([front, subject.text, rest, thing])
    body = _focused(subject, rest, thing, choice)
    if choice["mood"] == "exclamation":
        return f"{rng.choice(EXCLAMATIONS)} {body}"
    return body


def _focused(subject: Subject, rest: str, thing: str, choice: Mapping[str, str]) -> str:
    """The clause in the order that puts the doer, the thing or nothing in front."""
    be = "was" if choice["tense"] == "past" else "is"
    if choice["focus"] == "doer":
        return _join(["it", be, subject.text, "who", rest, thing])
    if choice["focus"] == "thing":
        return _join(["what", subject.text, rest, be, thing])
    return _join([subject.text, rest, thing])


def _join(words: list[str]) -> str:
    return " ".join(word for word in words if word)
