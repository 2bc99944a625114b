"""Sentences: slots around a clause, each filled by a family, and the values that were realized.

    open, head CLAUSE(subject verb det adj noun) place adverb adverb tail . close

Slots are filled independently of each other, so criteria of different families are independent
wherever both are realized. `noun` families stand as the object, or in a frame behind the clause.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from recipes.minilm_lenses.world.clauses import (
    ASPECTS,
    CATENATIVES,
    MOODS,
    NEGATIONS,
    TENSES,
    Subject,
    Verb,
    clause,
)
from recipes.minilm_lenses.world.tables import Criterion, Family, Word, choose, criteria, families

CHANCES = {"open": 0.25, "head": 0.2, "det": 0.5, "adj": 0.35, "tail": 0.25, "close": 0.25}
"""Chance that a slot is filled when nothing asks for it."""

FRAMED, ADVERBS = (0.4, 0.55, 0.05), (0.4, 0.55, 0.05)
"""Chances of 0, 1 and 2 nouns in frames, and of 0, 1 and 2 adverbs."""

GRAMMAR = {
    "tense": TENSES,
    "aspect": ASPECTS,
    "negation": tuple(NEGATIONS),
    "stance": ("none", *CATENATIVES),
    "mood": MOODS,
    "focus": ("plain", "doer", "thing"),
}
_DEFAULTS = {"stance": ("none", 0.6), "mood": ("statement", 0.55), "focus": ("plain", 0.6)}
_GRAMMAR_FAMILY = "grammar"

OWN = {
    "I": ("my", "myself"),
    "we": ("our", "ourselves"),
    "you": ("your", "yourself"),
    "he": ("his", "himself"),
    "she": ("her", "herself"),
    "it": ("their", "themselves"),
}
"""How a phrase's `one's` and `oneself` follow the subject."""


@dataclass(frozen=True)
class Sentence:
    """A text and the value of every criterion that it realizes, by key."""

    text: str
    labels: Mapping[str, str]
    sources: Mapping[str, str]
    """The word or phrase that realizes a criterion; the grammar's have none."""


@dataclass(frozen=True)
class Goal:
    """What a sentence must realize: one value of one criterion, or nothing."""

    criterion: Criterion | None = None
    value: str = ""

    def asks(self, family: Family) -> bool:
        """Whether `family` is the one that carries the criterion."""
        return self.criterion is not None and self.criterion.family == family.name


class Writer:
    """Writes one sentence.

    Args:
        rng: Draws everything.
        goal: What must be there.
        is_held_out: Use the words, frames and phrases of measuring instead of training's.
    """

    def __init__(self, rng: random.Random, goal: Goal, *, is_held_out: bool) -> None:
        self.rng, self.goal, self.side = rng, goal, int(is_held_out)
        self.labels: dict[str, str] = {}
        self.sources: dict[str, str] = {}
        self.used: set[str] = set()
        self.is_framed = rng.random() < 0.5  # whether the goal's noun stands behind the clause

    def write(self) -> Sentence:
        """The sentence, with at least the goal's criterion among its labels."""
        choice = self._grammar()
        subject, verb, thing = self._subject(), self._verb(), self._thing()
        core = clause(subject, verb, thing, choice, self.rng)
        owner = _owner(subject, self.labels)
        opening, head = self._phrase("open"), ""
        if choice["mood"] == "statement" and not self._is_for("mood"):
            head = self._phrase("head")
        if head:
            self.labels.pop("grammar.mood")
        rest = [*self._places(), *self._adverbs(), self._phrase("tail")]
        body = " ".join(part for part in (head, core, *rest) if part).replace(" ,", ",")
        body = body.replace("oneself", OWN[owner][1]).replace("one's", OWN[owner][0])
        body = body if not opening else f"{opening}{'' if opening[-1] in ',.!:' else ','} {body}"
        end = {"question": "?", "why": "?", "exclamation": "!"}.get(choice["mood"], ".")
        text = f"{body[0].upper()}{body[1:]}{end}"
        closing = self._phrase("close")
        return Sentence(f"{text} {closing}".strip(), self.labels, self.sources)

    def _grammar(self) -> dict[str, str]:
        choice = {}
        for name, values in GRAMMAR.items():
            usual, chance = _DEFAULTS.get(name, ("", 0.0))
            if self._is_for(name):
                choice[name] = self.goal.value
            else:
                choice[name] = usual if self.rng.random() < chance else self.rng.choice(values)
        is_asking = choice["mood"] in ("question", "why")
        if self._asked("head") or (self._is_for("focus") and is_asking):
            choice["mood"] = "statement"
        self.labels |= {f"{_GRAMMAR_FAMILY}.{name}": value for name, value in choice.items()}
        if choice["mood"] in ("question", "why"):  # the word order is taken by the question
            del self.labels[f"{_GRAMMAR_FAMILY}.focus"]
        return choice

    def _is_for(self, name: str) -> bool:
        """Whether the goal is this part of the grammar."""
        goal = self.goal.criterion
        return goal is not None and goal.key == f"{_GRAMMAR_FAMILY}.{name}"

    def _subject(self) -> Subject:
        agreement, _, text = self._word(families()["subject"]).partition(" ")
        return Subject(text, agreement)

    def _verb(self) -> Verb:
        return Verb.parse(self._word(families()["verb"]))

    def _thing(self) -> str:
        """The object: a noun with its determiner and adjective."""
        noun = self._word(self._family("noun", defer=self.is_framed))
        determiner = self._phrase("det") or "the"
        return " ".join(part for part in (determiner, self._phrase("adj"), noun) if part)

    def _places(self) -> list[str]:
        count = self.rng.choices((0, 1, 2), FRAMED)[0]
        asked = self._asked("frame") or (self._asked("noun") and self.is_framed)
        chosen = [self._family("frame", "noun") for _ in range(max(count, bool(asked)))]
        found = []
        for family in chosen:
            frame = choose(self.rng.choice(self._side(family.frames)), self.rng)
            found.append(frame.replace("{}", self._word(family)))
        return found

    def _adverbs(self) -> list[str]:
        count = self.rng.choices((0, 1, 2), ADVERBS)[0]
        count = max(count, bool(self._asked("adverb")))
        return [self._phrase("adverb", is_needed=True) for _ in range(count)]

    def _phrase(self, slot: str, *, is_needed: bool = False) -> str:
        """A phrase of a criterion in `slot`, or nothing by chance."""
        asked = self._asked(slot)
        if not (asked or is_needed or self.rng.random() < CHANCES[slot]):
            return ""
        family = self._family(slot)
        goal = self.goal.criterion
        if goal and self.goal.asks(family):
            criterion, value = goal, self.goal.value
        else:
            criterion = self.rng.choice(family.criteria)
            value = self.rng.choice(criterion.values)
        self.labels[criterion.key] = value
        phrase = self.rng.choice(self._side(criterion.phrases[value]))
        self.sources[criterion.key] = phrase
        return choose(phrase, self.rng)

    def _asked(self, slot: str) -> bool:
        goal = self.goal.criterion
        return goal is not None and families()[goal.family].slot == slot

    def _family(self, *slots: str, defer: bool = False) -> Family:
        """A family of the slots that this sentence does not use yet; the goal's first, or not."""
        free = [f for slot in slots for f in by_slot().get(slot, ()) if f.name not in self.used]
        asked = next((f for f in free if self.goal.asks(f)), None)
        if asked and defer:
            free.remove(asked)
        family = asked if asked and not defer else self.rng.choice(free)
        self.used.add(family.name)
        return family

    def _word(self, family: Family) -> str:
        words = self._side(family.words)
        if self.goal.asks(family) and self.goal.criterion:
            name = self.goal.criterion.name
            words = [word for word in words if word.values.get(name) == self.goal.value]
        word: Word = self.rng.choice(words)
        found = {f"{family.name}.{name}": value for name, value in word.values.items()}
        self.labels |= found
        self.sources |= dict.fromkeys(found, word.text)
        return word.text

    def _side(self, pools: tuple[Sequence, Sequence]) -> Sequence:  # type: ignore[type-arg]
        return pools[self.side]


def _owner(subject: Subject, labels: Mapping[str, str]) -> str:
    """Key of `OWN` for a subject."""
    person = labels["subject.person"]
    if person == "first":
        return "I" if subject.agreement == "1s" else "we"
    if person == "second":
        return "you"
    genders = {"male": "he", "female": "she"}
    return genders.get(labels.get("subject.gender", ""), "it")


@cache
def by_slot() -> dict[str, tuple[Family, ...]]:
    """Families by the slot that they fill."""
    slots = {family.slot for family in families().values()}
    return {s: tuple(f for f in families().values() if f.slot == s) for s in sorted(slots)}


def corpus(key: str, count: int, seed: int, *, is_held_out: bool = False) -> list[Sentence]:
    """Sentences that realize a criterion, its values in equal numbers, everything else free.

    Args:
        key: The criterion's key.
        count: Sentences, all different.
        seed: Draws them.
        is_held_out: Only words, frames and phrases that training never meets.
    """
    criterion = criteria()[key]
    rng = random.Random(f"{key}/{seed}/{is_held_out}")
    found: dict[str, Sentence] = {}
    while len(found) < count:
        goal = Goal(criterion, criterion.values[len(found) % len(criterion.values)])
        sentence = Writer(rng, goal, is_held_out=is_held_out).write()
        found.setdefault(sentence.text, sentence)
    return list(found.values())


def free_sentences(count: int, seed: int, *, is_held_out: bool = False) -> list[Sentence]:
    """Sentences with no criterion asked for."""
    rng = random.Random(f"free/{seed}/{is_held_out}")
    return [Writer(rng, Goal(), is_held_out=is_held_out).write() for _ in range(count)]
