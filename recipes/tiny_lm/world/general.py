"""Primitives that work on any text, some with an argument; each with its wordings (`{x}` is the text)."""

from __future__ import annotations

import string
from collections.abc import Callable

from .primitive import Primitive, primitive

NUMBER_WORDS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}
HELD_OUT_ARGUMENTS = {"first": 4, "last": 4, "drop_first": 2, "drop_last": 2, "mask_keep_last": 3}
"""The argument of each family that no training task uses."""


def _plain() -> list[Primitive]:
    return [
        primitive(
            "upper",
            str.upper,
            """write {x} in uppercase|convert {x} to capital letters|make {x} all caps|uppercase {x}|turn every letter of {x} into a capital|change {x} to upper case|put {x} in capitals|show {x} in big letters only|rewrite {x} with only uppercase letters""",
        ),
        primitive(
            "lower",
            str.lower,
            """write {x} in lowercase|convert {x} to small letters|make {x} all lower case|lowercase {x}|turn every letter of {x} into a small one|change {x} to lower case|put {x} in lowercase letters|remove the capitals from {x} by lowering them|rewrite {x} with only lowercase letters""",
        ),
        primitive(
            "swapcase",
            str.swapcase,
            """swap the case of {x}|invert upper and lower case in {x}|flip the case of every letter of {x}|make capitals small and small letters capital in {x}|toggle the case of {x}|exchange uppercase and lowercase in {x}|reverse the letter case of {x}|switch the case of each letter in {x}""",
        ),
        primitive(
            "reverse",
            lambda s: s[::-1],
            """reverse {x}|write {x} backwards|spell {x} from right to left|flip the order of the characters in {x}|turn {x} around character by character|mirror {x}|give {x} in reverse order of characters|print {x} back to front""",
        ),
        primitive(
            "repeat",
            lambda s: f"{s} {s}",
            """write {x} twice|repeat {x} two times with a space between|duplicate {x}|say {x} two times|double {x}, separated by a space|output {x} and once more {x}|give {x} and then the same again|print {x} a second time after itself""",
        ),
        primitive(
            "remove_digits",
            lambda s: _without(s, string.digits),
            """remove the digits from {x}|delete all numbers in {x}|strip the digits out of {x}|drop every digit of {x}|take the numerals out of {x}|erase the numbers from {x}|leave out all digits in {x}|clear {x} of digits""",
        ),
        primitive(
            "remove_spaces",
            lambda s: s.replace(" ", ""),
            """remove the spaces from {x}|delete all blanks in {x}|strip the whitespace out of {x}|close up {x} so that it has no spaces|take the spaces out of {x}|squeeze {x} together without spaces|drop every space in {x}|write {x} without any blanks""",
        ),
        primitive(
            "remove_punctuation",
            lambda s: _without(s, string.punctuation),
            """remove the punctuation from {x}|delete all punctuation marks in {x}|strip the symbols out of {x}|drop every special character of {x}|take punctuation out of {x}|clean {x} of dots, dashes and other marks|erase the punctuation of {x}|write {x} without punctuation""",
        ),
        primitive(
            "remove_vowels",
            lambda s: _without(s, "aeiouAEIOU"),
            """remove the vowels from {x}|delete a, e, i, o and u in {x}|strip the vowels out of {x}|drop every vowel of {x}|take the vowels out of {x}|write {x} without vowels|leave out all vowels in {x}|keep everything but the vowels of {x}""",
        ),
        primitive(
            "keep_digits",
            lambda s: "".join(c for c in s if c.isdigit()),
            """keep only the digits of {x}|leave just the numbers of {x}|extract all digits from {x}|throw away everything but the digits in {x}|pick the digits out of {x}|reduce {x} to its digits|return the digits of {x} only|filter {x} down to numerals""",
        ),
        primitive(
            "keep_letters",
            lambda s: "".join(c for c in s if c.isalpha()),
            """keep only the letters of {x}|leave just the alphabetic characters of {x}|extract all letters from {x}|throw away everything but the letters in {x}|pick the letters out of {x}|reduce {x} to its letters|return the letters of {x} only|filter {x} down to letters""",
        ),
        primitive(
            "mask_digits",
            lambda s: "".join("#" if c.isdigit() else c for c in s),
            """replace every digit of {x} with #|hide the digits of {x} behind # signs|mask the numbers in {x} with #|turn each digit of {x} into a hash sign|put # in place of the digits of {x}|cover all numerals of {x} with #|censor the digits in {x} using #|substitute # for each digit in {x}""",
        ),
        primitive(
            "mask_letters",
            lambda s: "".join("x" if c.isalpha() else c for c in s),
            """replace every letter of {x} with x|hide the letters of {x} behind x|mask the letters in {x} with x|turn each letter of {x} into an x|put x in place of the letters of {x}|cover all letters of {x} with x|censor the letters in {x} using x|substitute x for each letter in {x}""",
        ),
        primitive(
            "mask_vowels",
            lambda s: "".join("*" if c in "aeiouAEIOU" else c for c in s),
            """replace every vowel of {x} with *|hide the vowels of {x} behind stars|mask the vowels in {x} with *|turn each vowel of {x} into a star|put * in place of the vowels of {x}|cover all vowels of {x} with *|censor the vowels in {x} using *|substitute * for each vowel in {x}""",
        ),
        primitive(
            "underscores",
            lambda s: s.replace(" ", "_"),
            """replace the spaces of {x} with underscores|turn blanks in {x} into underscores|put _ instead of each space in {x}|join the words of {x} with underscores|change every space of {x} to _|use underscores for the spaces in {x}|swap spaces for underscores in {x}|connect the parts of {x} by underscores""",
        ),
        primitive(
            "hyphens",
            lambda s: s.replace(" ", "-"),
            """replace the spaces of {x} with hyphens|turn blanks in {x} into hyphens|put - instead of each space in {x}|join the words of {x} with hyphens|change every space of {x} to a dash|use hyphens for the spaces in {x}|swap spaces for hyphens in {x}|connect the parts of {x} by dashes""",
        ),
        primitive(
            "count_chars",
            lambda s: str(len(s)),
            """count the characters of {x}|tell how many characters {x} has|give the length of {x}|return the number of characters in {x}|say how long {x} is|measure the length of {x}|output how many characters there are in {x}|compute the character count of {x}""",
        ),
        primitive(
            "count_digits",
            lambda s: str(sum(c.isdigit() for c in s)),
            """count the digits of {x}|tell how many digits {x} has|give the number of digits in {x}|return how many numerals occur in {x}|say how many digits there are in {x}|compute the digit count of {x}|output the count of digits in {x}|find out how many digits {x} contains""",
        ),
        primitive(
            "count_letters",
            lambda s: str(sum(c.isalpha() for c in s)),
            """count the letters of {x}|tell how many letters {x} has|give the number of letters in {x}|return how many letters occur in {x}|say how many letters there are in {x}|compute the letter count of {x}|output the count of letters in {x}|find out how many letters {x} contains""",
        ),
    ]


def _without(text: str, characters: str) -> str:
    return "".join(c for c in text if c not in characters)


_COUNTED: dict[str, tuple[Callable[[int], Callable[[str], str]], str, tuple[int, ...]]] = {
    "first": (lambda k: lambda s: s[:k], """keep the first {k} characters of {x}|take the first {k} letters of {x}|return the leading {k} characters of {x}|cut {x} to its first {k} characters|show only the first {k} characters of {x}|shorten {x} to {k} characters from the start|give the initial {k} characters of {x}|extract the first {k} symbols of {x}""", (1, 2, 3, 4, 5)),
    "last": (lambda k: lambda s: s[-k:], """keep the last {k} characters of {x}|take the last {k} letters of {x}|return the final {k} characters of {x}|cut {x} to its last {k} characters|show only the last {k} characters of {x}|shorten {x} to {k} characters from the end|give the ending {k} characters of {x}|extract the last {k} symbols of {x}""", (1, 2, 3, 4, 5)),
    "drop_first": (lambda k: lambda s: s[k:], """drop the first {k} characters of {x}|remove the first {k} letters of {x}|delete the leading {k} characters of {x}|skip the first {k} characters of {x}|cut {k} characters off the start of {x}|trim {k} characters from the front of {x}|leave out the initial {k} characters of {x}|strip the first {k} symbols from {x}""", (1, 2, 3)),
    "drop_last": (lambda k: lambda s: s[:-k], """drop the last {k} characters of {x}|remove the last {k} letters of {x}|delete the final {k} characters of {x}|omit the last {k} characters of {x}|cut {k} characters off the end of {x}|trim {k} characters from the back of {x}|leave out the ending {k} characters of {x}|strip the last {k} symbols from {x}""", (1, 2, 3)),
    "mask_keep_last": (lambda k: lambda s: "*" * (len(s) - k) + s[-k:], """replace all but the last {k} characters of {x} with *|mask {x} except for the last {k} characters|hide {x} behind stars but keep the last {k} characters|star out everything in {x} except the final {k} characters|show only the last {k} characters of {x} and stars before them|cover {x} with * up to the last {k} characters|censor {x} with stars, leaving the last {k} characters|turn all characters of {x} but the last {k} into stars""", (2, 3, 4)),
}  # fmt: skip

_WRAPS = {
    "quotes": ('"{}"', "double quotes"),
    "apostrophes": ("'{}'", "single quotes"),
    "parentheses": ("({})", "parentheses"),
    "brackets": ("[{}]", "square brackets"),
    "angles": ("<{}>", "angle brackets"),
    "braces": ("{{{}}}", "curly braces"),
}
_PREFIXES = {
    ">": "> {}",
    "#": "# {}",
    "-": "- {}",
    "@": "@{}",
    "No.": "No. {}",
    "TODO:": "TODO: {}",
}
_SUFFIXES = {"!": "{}!", "?": "{}?", ";": "{};", "...": "{}...", ":": "{}:", "(ok)": "{} (ok)"}
_WRAP_TEXT = """put {x} in {k}|enclose {x} in {k}|surround {x} with {k}|wrap {k} around {x}|write {x} between {k}|set {x} in {k}|add {k} around {x}|place {x} inside {k}"""
_PREFIX_TEXT = """put {k} in front of {x}|prefix {x} with {k}|add {k} before {x}|start {x} with {k}|write {k} ahead of {x}|prepend {k} to {x}|place {k} at the beginning of {x}|begin {x} by {k}"""
_SUFFIX_TEXT = """put {k} behind {x}|suffix {x} with {k}|add {k} after {x}|end {x} with {k}|write {k} at the end of {x}|append {k} to {x}|place {k} after the end of {x}|finish {x} by {k}"""


def _format(pattern: str) -> Callable[[str], str]:
    return lambda s: pattern.format(s)


def _with_number(texts: str, k: int) -> str:
    """Half of the wordings spell the number."""
    parts = texts.split("|")
    filled = [
        t.replace("{k}", NUMBER_WORDS[k] if i % 2 else str(k)).replace(
            f"{k} characters" if k == 1 else "\0", "1 character"
        )
        for i, t in enumerate(parts)
    ]
    if k == 1:
        filled = [
            t.replace("one characters", "one character").replace("one letters", "one letter")
            for t in filled
        ]
        filled = [t.replace("1 letters", "1 letter").replace("symbols", "symbol") for t in filled]
    return "|".join(filled)


def general_primitives() -> list[Primitive]:
    """All general primitives, one for each argument."""
    found = _plain()
    for family, (make, texts, arguments) in _COUNTED.items():
        found += [
            primitive(f"{family}_{k}", make(k), _with_number(texts, k), family=family, argument=k)
            for k in arguments
        ]
    for family, table, texts in (
        ("wrap", {k: v[0] for k, v in _WRAPS.items()}, _WRAP_TEXT),
        ("prefix", _PREFIXES, _PREFIX_TEXT),
        ("suffix", _SUFFIXES, _SUFFIX_TEXT),
    ):
        for name, pattern in table.items():
            spoken = _WRAPS[name][1] if family == "wrap" else f'"{name}"'
            found.append(
                primitive(
                    f"{family}_{name}",
                    _format(pattern),
                    texts.replace("{k}", spoken),
                    family=family,
                    argument=name,
                )
            )
    return found
