"""Reading the formats of `inputs` back into their parts; the primitives are written on these."""

from __future__ import annotations

import re

from .inputs import MONTHS


def name_parts(text: str) -> tuple[str, str]:
    """(first, last) of a person's name in either format."""
    if ", " in text:
        last, first = text.split(", ")
        return first, last
    first, last = text.split(" ")
    return first, last


def phone_groups(text: str) -> list[str]:
    """The groups of digits of a phone number."""
    return re.findall(r"\d+", text)


def date_parts(text: str) -> tuple[int, int, int]:
    """(year, month, day) of a date in any of the three formats."""
    if "-" in text:
        year, month, day = text.split("-")
        return int(year), int(month), int(day)
    if "/" in text:
        month, day, year = text.split("/")
        return int(year), int(month), int(day)
    day, month_name, year = text.split(" ")
    return int(year), MONTHS.index(month_name) + 1, int(day)


def time_parts(text: str) -> tuple[int, int]:
    """(hour in 0..23, minute) of a time in either format."""
    clock, _, half = text.partition(" ")
    hour, minute = (int(part) for part in clock.split(":"))
    if half:
        hour = hour % 12 + (12 if half == "PM" else 0)
    return hour, minute


def url_parts(text: str) -> tuple[str, str, str, str]:
    """(scheme, host, path without the leading slash, query or '')."""
    scheme, rest = text.split("://")
    rest, _, query = rest.partition("?")
    host, _, path = rest.partition("/")
    return scheme, host, path, query


def identifier_words(text: str) -> list[str]:
    """The words of an identifier in any of the four styles, in lowercase."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+", text)]


def price_parts(text: str) -> tuple[str, str]:
    """(currency code, amount without thousands commas)."""
    if text.startswith("$"):
        return "USD", text[1:].replace(",", "")
    currency, amount = text.split(" ")
    return currency, amount.replace(",", "")


def address_parts(text: str) -> tuple[str, str, str, str]:
    """(house number, street, city, postal code)."""
    line, place = text.split(", ")
    number, street = line.split(" ", 1)
    city, postal_code = place.split(" ")
    return number, street, city, postal_code


def items(text: str) -> list[str]:
    """The items of a comma-separated list."""
    return text.split(", ")


def words(text: str) -> list[str]:
    """The words of a sentence without its full stop."""
    return text.rstrip(".").split(" ")


def code_parts(text: str) -> tuple[str, str, str]:
    """(prefix, number, suffix) of a product code."""
    prefix, number, suffix = text.split("-")
    return prefix, number, suffix
