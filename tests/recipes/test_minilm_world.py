"""The world of lenses: what is held out stays out, everything is realized, nothing is entangled."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import pytest

from recipes.minilm_lenses.make_behaviors import named
from recipes.minilm_lenses.train_lenses import anchors_of
from recipes.minilm_lenses.world.clauses import Subject, Verb, clause
from recipes.minilm_lenses.world.criteria import (
    descriptions,
    family_of,
    make_splits,
    naming,
    split_of,
)
from recipes.minilm_lenses.world.handwritten import handwritten, handwritten_criteria
from recipes.minilm_lenses.world.sentences import by_slot, corpus, free_sentences
from recipes.minilm_lenses.world.tables import criteria, families, held_out_words

FREE = free_sentences(4000, 3)
PHRASES = [one for one in criteria().values() if one.phrases]


def test_criteria_are_many_and_have_three_to_twelve_values() -> None:
    assert len(criteria()) >= 150
    assert all(3 <= len(one.values) <= 12 for one in criteria().values())
    assert all(len(set(one.values)) == len(one.values) for one in criteria().values())


def test_every_criterion_is_in_one_split_and_its_family_too() -> None:
    splits = make_splits()
    assert sorted(itertools.chain(*splits.values())) == sorted(criteria())
    assert {name: len(keys) >= 10 for name, keys in splits.items()} == dict.fromkeys(splits, True)
    unseen = {family_of(criteria()[key]) for key in splits["unseen_primitive"]}
    others = {
        family_of(criteria()[key]) for name in ("seen", "unseen_argument") for key in splits[name]
    }
    assert not unseen & others
    seen = {family_of(criteria()[key]) for key in splits["seen"]}
    assert {family_of(criteria()[key]) for key in splits["unseen_argument"]} <= seen


def test_unseen_criteria_are_of_every_kind() -> None:
    slots = {families()[criteria()[k].family].slot for k in make_splits()["unseen_primitive"]}
    assert slots >= {"noun", "frame", "adverb", "adj", "head", "open", "tail", "close", "grammar"}


@pytest.mark.parametrize("key", criteria())
def test_every_value_is_realized_on_both_sides(key: str) -> None:
    values = criteria()[key].values
    for is_held_out in (False, True):
        found = corpus(key, 3 * len(values), 0, is_held_out=is_held_out)
        assert Counter(one.labels[key] for one in found) == dict.fromkeys(values, 3)
        assert len({one.text for one in found}) == len(found)


@pytest.mark.parametrize("key", criteria())
def test_descriptions_are_eight_and_more_and_held_out_ones_are_new(key: str) -> None:
    known = descriptions(key, 99)
    new = descriptions(key, 99, is_held_out=True)
    assert len(set(known)) == len(known) >= 8
    assert len(new) >= 4
    assert not set(known) & set(new)
    held_out = criteria()[key].sayings[1]
    assert not any(saying in text for saying in held_out for text in known)


def test_a_request_can_name_the_values_in_any_order() -> None:
    found = naming("grammar.tense", ("past", "present", "future"), 8)
    assert found[0].endswith("(past, present or future)")
    assert len(set(found)) == len(found) > 4
    assert all(value in text for text in found for value in ("past", "present", "future"))
    assert naming("grammar.tense", ("past", "present", "future"), 8) == found


def test_parts_of_a_criterion_have_the_sentences_of_their_values_only() -> None:
    whole, *parts = named("grammar.tense")
    assert whole.task == "grammar.tense"
    labels = dict(whole.examples)
    for part in parts:
        for text, group in part.examples:
            assert labels[text] in group.split(" or ")
        assert all(any(v in d for v in {*labels.values()}) for d in part.descriptions)


def test_no_description_fits_two_criteria() -> None:
    found = [text for key in criteria() for text in descriptions(key, 99)]
    assert [text for text, count in Counter(found).items() if count > 1] == []


def test_held_out_words_frames_and_phrases_are_never_trained_on() -> None:
    for family in families().values():
        trained, held_out = ({word.text for word in words} for words in family.words)
        assert not trained & held_out
        assert not set(family.frames[0]) & set(family.frames[1])
    for one in PHRASES:
        trained = {phrase for pool in one.phrases.values() for phrase in pool[0]}
        held_out = {phrase for pool in one.phrases.values() for phrase in pool[1]}
        assert not trained & held_out
        assert all(len(pool[0]) >= 5 and len(pool[1]) >= 2 for pool in one.phrases.values())


def test_a_phrase_means_one_value() -> None:
    for one in PHRASES:
        pools = [phrase for pool in one.phrases.values() for side in pool for phrase in side]
        assert [phrase for phrase, count in Counter(pools).items() if count > 1] == [], one.key


def test_words_of_a_value_stand_on_both_sides() -> None:
    for family in families().values():
        for one in family.criteria:
            for words in family.words:
                found = {word.values[one.name] for word in words if one.name in word.values}
                assert not words or found == set(one.values), one.key


def test_held_out_words_refuse_a_value_with_too_few_words() -> None:
    words = list(families()["animal"].words[0])[:2]
    with pytest.raises(ValueError, match="has no word that can be held out in `few`"):
        held_out_words(words, "few")


def test_sentences_carry_many_criteria_and_are_short() -> None:
    counts = [len(one.labels) for one in FREE]
    assert min(counts) >= 6
    assert sum(len(one.text.split()) for one in FREE) / len(FREE) < 22
    assert len({one.text for one in FREE}) == len(FREE)


def test_the_vocabulary_is_large() -> None:
    words = Counter(itertools.chain(*(one.text.lower().split() for one in FREE)))
    assert len(words) > 2000


def mutual_information(first: str, second: str) -> tuple[float, float]:
    """(what one criterion says of another in the same sentence, what chance alone would give)."""
    pairs = [
        (s.labels[first], s.labels[second]) for s in FREE if {first, second} <= s.labels.keys()
    ]
    both, count = Counter(pairs), len(pairs)
    ones, twos = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    found = sum(n / count * math.log(n * count / (ones[a] * twos[b])) for (a, b), n in both.items())
    k = (len(ones) - 1) * (len(twos) - 1)
    # The chi-square quantile 4.8 standard errors out (Wilson and Hilferty, 1931): of a thousand
    # independent pairs none is expected beyond it.
    return found, k * (1 - 2 / (9 * k) + 4.8 * math.sqrt(2 / (9 * k))) ** 3 / (2 * count)


def test_criteria_of_different_families_are_independent() -> None:
    seen = Counter(pair for s in FREE for pair in itertools.combinations(sorted(s.labels), 2))
    pairs = [
        pair
        for pair, n in seen.items()
        if n >= 300 and len({family_of(criteria()[key]) for key in pair}) == 2
    ]
    entangled = {pair: mutual_information(*pair) for pair in pairs}
    assert len(pairs) > 100
    assert {pair: found for pair, found in entangled.items() if found[0] > found[1]} == {}


def test_criteria_of_one_lexicon_are_not_the_same() -> None:
    for family in families().values():
        for first, second in itertools.combinations(family.criteria, 2):
            words = [w for side in family.words for w in side]
            values = [(w.values.get(first.name), w.values.get(second.name)) for w in words]
            assert not words or len(set(values)) > max(len(first.values), len(second.values))


def test_a_seed_gives_the_same_sentences() -> None:
    assert corpus("urgency.urgency", 12, 5) == corpus("urgency.urgency", 12, 5)
    assert corpus("urgency.urgency", 12, 5) != corpus("urgency.urgency", 12, 6)
    assert free_sentences(5, 1, is_held_out=True) == free_sentences(5, 1, is_held_out=True)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "my aunt took the tuba"),
        ({"tense": "future", "aspect": "progressive"}, "my aunt will be taking the tuba"),
        ({"tense": "present"}, "my aunt takes the tuba"),
        ({"aspect": "perfect", "negation": "absolute"}, "my aunt had never taken the tuba"),
        ({"tense": "present", "mood": "question"}, "does my aunt take the tuba"),
        ({"stance": "threat", "tense": "future"}, "my aunt will threaten to take the tuba"),
        ({"focus": "doer"}, "it was my aunt who took the tuba"),
        ({"focus": "thing", "tense": "present"}, "what my aunt takes is the tuba"),
        ({"mood": "why", "aspect": "progressive"}, "why was my aunt taking the tuba"),
    ],
)
def test_a_clause_is_english(changes: dict[str, str], expected: str) -> None:
    plain = {"tense": "past", "aspect": "simple", "negation": "none"}
    usual = {"stance": "none", "mood": "statement", "focus": "plain"}
    subject, verb = Subject("my aunt", "3s"), Verb.parse("take took taken taking")
    random_first = type("First", (random.Random,), {"choice": lambda _, found: found[0]})()
    assert clause(subject, verb, "the tuba", plain | usual | changes, random_first) == expected


def test_every_slot_has_a_family() -> None:
    assert set(by_slot()) >= {"noun", "frame", "adverb", "adj", "det", "head", "open", "tail"}


def test_splits_are_those_of_the_zoo() -> None:
    assert split_of(criteria()["urgency.urgency"]) == "unseen_primitive"
    assert split_of(criteria()["sport.gear"]) == "unseen_argument"
    assert split_of(criteria()["grammar.tense"]) == "seen"


def test_handwritten_sentences_are_many_and_labeled_with_known_values() -> None:
    found = handwritten()
    assert len({one.text for one in found}) == len(found) >= 300
    assert all(len(one.labels) >= 2 for one in found)
    for one in found:
        assert all(value in criteria()[key].values for key, value in one.labels.items()), one


def test_handwritten_sentences_measure_seen_and_unseen_criteria() -> None:
    keys = handwritten_criteria()
    splits = [split_of(criteria()[key]) for key in keys]
    assert min(splits.count("seen"), splits.count("unseen_primitive")) >= 5
    for key in keys:
        counts = Counter(one.labels[key] for one in handwritten() if key in one.labels)
        assert len([value for value, count in counts.items() if count >= 2]) >= 2, key


def test_the_grammar_did_not_write_the_handwritten_sentences() -> None:
    written = {one.text.lower() for one in FREE}
    assert not written & {one.text.lower() for one in handwritten()}


def test_anchors_are_bare_words_of_training_with_their_value() -> None:
    anchors = dict(anchors_of("food.taste"))
    trained = {word.text: word.values.get("taste") for word in families()["food"].words[0]}
    assert len(anchors) > 20
    assert all(trained[text] == value for text, value in anchors.items())
    assert len(anchors_of("reason.blame")) >= 20
    assert not any(text.startswith(",") for text, _ in anchors_of("reason.blame"))
    assert anchors_of("grammar.tense") == []
