"""Primitives of dates, times, identifiers, prices, addresses, lists, sentences, codes and pairs."""

from __future__ import annotations

from .inputs import MONTHS
from .parse import (
    address_parts,
    code_parts,
    date_parts,
    identifier_words,
    items,
    price_parts,
    time_parts,
    words,
)
from .primitive import Primitive, primitive


def _date() -> list[Primitive]:
    k = "date"
    return [
        primitive("date_year", lambda s: f"{date_parts(s)[0]}", """extract the year of {x}|give the year in {x}|return only the year of {x}|take the year out of {x}|in which year is {x}|keep just the year of {x}|get the year from {x}|pick the year out of {x}""", kind=k),
        primitive("date_month", lambda s: f"{date_parts(s)[1]:02d}", """extract the month of {x} as a number|give the two-digit month in {x}|return the month number of {x}|take the month out of {x} in digits|write the month of {x} with two digits|keep just the numeric month of {x}|get the month number from {x}|pick the month of {x} as digits""", kind=k),
        primitive("date_day", lambda s: f"{date_parts(s)[2]}", """extract the day of {x}|give the day of the month in {x}|return only the day number of {x}|take the day out of {x} without a leading zero|on which day of the month is {x}|keep just the day of {x}|get the day from {x}|pick the day of the month out of {x}""", kind=k),
        primitive("date_month_name", lambda s: MONTHS[date_parts(s)[1] - 1], """write the month name of {x}|give the name of the month in {x}|return the month of {x} in words|spell the month of {x}|in which month is {x}, by name|keep just the month's name of {x}|get the name of the month from {x}|name the month of {x}""", kind=k),
        primitive("date_iso", lambda s: "{:04d}-{:02d}-{:02d}".format(*date_parts(s)), """write {x} in ISO format|convert {x} to year-month-day|format {x} like 2024-03-07|turn {x} into the ISO 8601 form|give {x} as YYYY-MM-DD|rewrite {x} year first with dashes|normalize {x} to ISO|change {x} to the form year-month-day""", kind=k),
        primitive("date_us", lambda s: "{1:02d}/{2:02d}/{0:04d}".format(*date_parts(s)), """write {x} in American format|convert {x} to month/day/year|format {x} like 03/07/2024|turn {x} into the US form|give {x} as MM/DD/YYYY|rewrite {x} month first with slashes|normalize {x} to the American style|change {x} to the form month/day/year""", kind=k),
        primitive("date_german", lambda s: "{2:02d}.{1:02d}.{0:04d}".format(*date_parts(s)), """write {x} in German format|convert {x} to day.month.year|format {x} like 07.03.2024|turn {x} into the dotted European form|give {x} as DD.MM.YYYY|rewrite {x} day first with dots|normalize {x} to the German style|change {x} to the form day.month.year""", kind=k),
        primitive("date_compact", lambda s: "{:04d}{:02d}{:02d}".format(*date_parts(s)), """write {x} as eight digits|convert {x} to the compact form year, month, day without separators|format {x} like 20240307|turn {x} into a timestamp of digits only, year first|give {x} as YYYYMMDD|rewrite {x} year first without dashes|squeeze {x} into eight digits|change {x} to the basic ISO form""", kind=k),
        primitive("date_year_month", lambda s: "{:04d}-{:02d}".format(*date_parts(s)[:2]), """write the year and month of {x}|convert {x} to year-month|format {x} like 2024-03|cut {x} to its month, year first|give {x} as YYYY-MM|rewrite {x} without the day, year first|keep the year and the month of {x}|change {x} to the form year-month""", kind=k),
        primitive("date_long", lambda s: f"{date_parts(s)[2]} {MONTHS[date_parts(s)[1] - 1]} {date_parts(s)[0]}", """write {x} with the month spelled out|convert {x} to day, month name, year|format {x} like 7 March 2024|turn {x} into the long form|give {x} with the month in words|rewrite {x} the way it is spoken, day first|write out {x}|change {x} to the long date format""", kind=k),
    ]  # fmt: skip


def _half(hour: int) -> str:
    return "AM" if hour < 12 else "PM"


def _time() -> list[Primitive]:
    k = "time"
    return [
        primitive("time_24", lambda s: "{:02d}:{:02d}".format(*time_parts(s)), """write {x} in 24-hour format|convert {x} to the 24 hour clock|format {x} like 14:05|turn {x} into military style with a colon|give {x} on a 24-hour clock|rewrite {x} without AM or PM|normalize {x} to 24 hours|change {x} to the European clock""", kind=k),
        primitive("time_12", lambda s: f"{time_parts(s)[0] % 12 or 12}:{time_parts(s)[1]:02d} {_half(time_parts(s)[0])}", """write {x} in 12-hour format|convert {x} to the 12 hour clock with AM or PM|format {x} like 2:05 PM|turn {x} into the American clock|give {x} with AM or PM|rewrite {x} on a 12-hour clock|normalize {x} to AM and PM|change {x} to the twelve hour form""", kind=k),
        primitive("time_hour", lambda s: f"{time_parts(s)[0]:02d}", """extract the hour of {x} on the 24-hour clock|give the two-digit hour of {x}|return only the hour of {x} from 00 to 23|take the hour out of {x}|keep just the hour of {x}|get the hour from {x}|show the hour of {x} in 24-hour style|pick the hour out of {x}""", kind=k),
        primitive("time_minute", lambda s: f"{time_parts(s)[1]:02d}", """extract the minutes of {x}|give the minute part of {x}|return only the minutes of {x}|take the minutes out of {x}|keep just the minutes of {x}|get the minute from {x}|show the minutes past the hour of {x}|pick the minutes out of {x}""", kind=k),
        primitive("time_half", lambda s: _half(time_parts(s)[0]), """say whether {x} is AM or PM|give the half of the day of {x}|return AM or PM for {x}|tell if {x} is before or after noon with AM or PM|keep just the AM or PM of {x}|get the day half from {x}|classify {x} as AM or PM|decide between AM and PM for {x}""", kind=k),
        primitive("time_compact", lambda s: "{:02d}{:02d}".format(*time_parts(s)), """write {x} as four digits|convert {x} to 24-hour digits without a colon|format {x} like 1405|turn {x} into four digits on the 24-hour clock|give {x} as HHMM|rewrite {x} without separators, 24-hour|squeeze {x} into four digits|change {x} to the compact clock form""", kind=k),
    ]  # fmt: skip


def _identifier() -> list[Primitive]:
    k = "identifier"
    w = identifier_words
    return [
        primitive("id_snake", lambda s: "_".join(w(s)), """write {x} in snake_case|convert {x} to snake case|join the words of {x} with underscores in lowercase|turn {x} into snake_case|rename {x} in the Python style with underscores|rewrite {x} as lower words joined by _|format {x} in snake case|change {x} to snake case style""", kind=k),
        primitive("id_kebab", lambda s: "-".join(w(s)), """write {x} in kebab-case|convert {x} to kebab case|join the words of {x} with hyphens in lowercase|turn {x} into kebab-case|rename {x} in the CSS style with dashes|rewrite {x} as lower words joined by -|format {x} in kebab case|change {x} to kebab case style""", kind=k),
        primitive("id_camel", lambda s: w(s)[0] + "".join(p.capitalize() for p in w(s)[1:]), """write {x} in camelCase|convert {x} to camel case|join the words of {x} with inner capitals and a small first letter|turn {x} into camelCase|rename {x} in the JavaScript style|rewrite {x} like userName|format {x} in lower camel case|change {x} to camel case style""", kind=k),
        primitive("id_pascal", lambda s: "".join(p.capitalize() for p in w(s)), """write {x} in PascalCase|convert {x} to Pascal case|join the words of {x} with a capital for each|turn {x} into PascalCase|rename {x} like a class|rewrite {x} like UserName|format {x} in upper camel case|change {x} to Pascal case style""", kind=k),
        primitive("id_constant", lambda s: "_".join(w(s)).upper(), """write {x} in CONSTANT_CASE|convert {x} to screaming snake case|join the words of {x} with underscores in capitals|turn {x} into CONSTANT_CASE|rename {x} like a constant|rewrite {x} like USER_NAME|format {x} in upper snake case|change {x} to constant style""", kind=k),
        primitive("id_words", lambda s: " ".join(w(s)), """write {x} as separate words|split {x} into words with spaces|convert {x} to plain words|turn {x} into readable lowercase words|humanize {x}|rewrite {x} as a phrase|format {x} as words with spaces between|change {x} to normal words""", kind=k),
        primitive("id_first_word", lambda s: w(s)[0], """extract the first word of {x}|give the leading word in {x}|return only the first part of {x} in lowercase|take the first word out of {x}|keep just the opening word of {x}|get the first component from {x}|show the first word that {x} is made of|pick the first word out of {x}""", kind=k),
        primitive("id_last_word", lambda s: w(s)[-1], """extract the last word of {x}|give the final word in {x}|return only the last part of {x} in lowercase|take the last word out of {x}|keep just the closing word of {x}|get the last component from {x}|show the last word that {x} is made of|pick the last word out of {x}""", kind=k),
        primitive("id_acronym", lambda s: "".join(p[0] for p in w(s)), """abbreviate {x} to the first letters of its words|make an acronym of {x}|return the word initials of {x} in lowercase|take the first letter of each word of {x}|shorten {x} to its initials|get an abbreviation from {x}|build a short alias from the initials of {x}|reduce each word of {x} to one letter""", kind=k),
    ]  # fmt: skip


def _price() -> list[Primitive]:
    k = "price"
    return [
        primitive("price_number", lambda s: price_parts(s)[1], """write {x} as a plain number|give the amount of {x} without currency and commas|convert {x} to a bare decimal|strip the currency and the thousands separator from {x}|return just the number of {x}|turn {x} into a decimal number|clean {x} to digits and a point|get the numeric value of {x}""", kind=k),
        primitive("price_whole", lambda s: price_parts(s)[1].split(".")[0], """extract the whole units of {x}|give {x} without cents, currency and commas|return the integer part of {x}|cut the cents off {x}, digits only|keep just the dollars of {x} as a number|get the amount before the point from {x}|show the whole amount of {x}|truncate {x} to a whole number""", kind=k),
        primitive("price_cents", lambda s: price_parts(s)[1].split(".")[1], """extract the cents of {x}|give the part of {x} behind the point|return only the cents of {x}|take the decimals out of {x}|keep just the two decimals of {x}|get the cents from {x}|show how many cents {x} has|pick the cents out of {x}""", kind=k),
        primitive("price_currency", lambda s: price_parts(s)[0], """extract the currency code of {x}|give the three-letter currency of {x}|return the currency of {x}|name the currency in {x} by its code|keep just the currency of {x}|get the ISO currency from {x}|show which currency {x} is in|pick the currency code out of {x}""", kind=k),
        primitive("price_code_first", lambda s: " ".join(price_parts(s)), """write {x} as currency code, space, number|format {x} like USD 1299.50|convert {x} to code and plain amount|put the three-letter code before the number of {x}|give {x} with the ISO code in front|turn {x} into code first form without commas|rewrite {x} with the currency code first|normalize {x} to code and amount""", kind=k),
        primitive("price_code_last", lambda s: " ".join(reversed(price_parts(s))), """write {x} as number, space, currency code|format {x} like 1299.50 USD|convert {x} to plain amount and code|put the three-letter code behind the number of {x}|give {x} with the ISO code at the end|turn {x} into code last form without commas|rewrite {x} with the currency code last|normalize {x} to amount and code""", kind=k),
    ]  # fmt: skip


def _address() -> list[Primitive]:
    k = "address"
    a = address_parts
    return [
        primitive("address_number", lambda s: a(s)[0], """extract the house number of {x}|give the number of the house in {x}|return only the street number of {x}|take the house number out of {x}|keep just the building number of {x}|get the house number from {x}|show the number in front of the street in {x}|pick the house number out of {x}""", kind=k),
        primitive("address_street", lambda s: a(s)[1], """extract the street of {x}|give the street name in {x}|return only the street of {x} without the number|take the street out of {x}|keep just the road of {x}|get the street name from {x}|show on which street {x} is|pick the street out of {x}""", kind=k),
        primitive("address_city", lambda s: a(s)[2], """extract the city of {x}|give the town in {x}|return only the city of {x}|take the city out of {x}|keep just the town of {x}|get the city from {x}|show in which city {x} is|pick the city out of {x}""", kind=k),
        primitive("address_zip", lambda s: a(s)[3], """extract the postal code of {x}|give the zip code in {x}|return only the ZIP of {x}|take the postcode out of {x}|keep just the zip code of {x}|get the postal code from {x}|show the five-digit code of {x}|pick the postcode out of {x}""", kind=k),
        primitive("address_line", lambda s: s.split(", ")[0], """extract the first line of {x}|give the house number and street of {x}|return the part of {x} before the comma|take number and street out of {x}|keep just the street line of {x}|get the delivery line from {x}|drop the city and the postal code from {x}|pick the street line out of {x}""", kind=k),
        primitive("address_zip_city", lambda s: f"{a(s)[3]} {a(s)[2]}", """write the postal code and then the city of {x}|give zip and town of {x}, zip first|return the place of {x} as postcode, city|format the place of {x} like 78701 Austin|put the ZIP before the city of {x} and drop the street|get postcode plus town from {x}|show the city of {x} with the postal code in front|turn {x} into zip code and city""", kind=k),
    ]  # fmt: skip


def _list() -> list[Primitive]:
    k = "list"
    return [
        primitive("list_first", lambda s: items(s)[0], """extract the first item of {x}|give the first entry in {x}|return only the first element of {x}|take the head of {x}|keep just the item that {x} starts with|get the first item from {x}|show what comes first in {x}|pick the first element out of {x}""", kind=k),
        primitive("list_second", lambda s: items(s)[1], """extract the second item of {x}|give the second entry in {x}|return only the second element of {x}|take item number two of {x}|keep just the item after the first in {x}|get the second item from {x}|show what comes second in {x}|pick the second element out of {x}""", kind=k),
        primitive("list_last", lambda s: items(s)[-1], """extract the last item of {x}|give the final entry in {x}|return only the last element of {x}|take the tail item of {x}|keep just the item that {x} ends with|get the last item from {x}|show what comes last in {x}|pick the last element out of {x}""", kind=k),
        primitive("list_count", lambda s: str(len(items(s))), """count the items of {x}|tell how many entries {x} has|give the number of elements in {x}|return how many items there are in {x}|say how long {x} is in items|compute the number of entries of {x}|output the item count of {x}|find out how many elements {x} contains""", kind=k),
        primitive("list_reverse", lambda s: ", ".join(reversed(items(s))), """reverse the order of the items in {x}|write the entries of {x} from last to first|turn the list order of {x} around|give {x} with its items in reverse order|flip the sequence of elements in {x}|list the items of {x} backwards|put the last item of {x} first and so on|return the elements of {x} in opposite order""", kind=k),
        primitive("list_semicolons", lambda s: "; ".join(items(s)), """separate the items of {x} with semicolons|write {x} with semicolons for commas|join the entries of {x} by semicolons|replace the commas of {x} with semicolons|use ; between the elements of {x}|turn {x} into a semicolon list|change the separator of {x} to a semicolon|put semicolons between the items of {x}""", kind=k),
        primitive("list_pipes", lambda s: "|".join(items(s)), "separate the items of {x} with vertical bars|write {x} with bars for commas|join the entries of {x} by pipes without spaces|replace the commas of {x} with pipes|use a pipe between the elements of {x}|turn {x} into a pipe-separated list|change the separator of {x} to a bar|put bars between the items of {x}", kind=k),
        primitive("list_and", lambda s: ", ".join(items(s)[:-1]) + " and " + items(s)[-1], """write {x} with and before the last item|join the last two entries of {x} with and|turn {x} into prose with and|give {x} as an English enumeration|replace the last comma of {x} with and|read {x} out with and at the end|put the word and between the last two items of {x}|phrase {x} as a, b and c""", kind=k),
        primitive("list_rest", lambda s: ", ".join(items(s)[1:]), """drop the first item of {x}|remove the head of {x}|give {x} without its first entry|delete the leading element of {x}|keep all items of {x} but the first|skip the first entry of {x}|return the rest of {x} after the first item|take the first element off {x}""", kind=k),
    ]  # fmt: skip


def _sentence() -> list[Primitive]:
    k = "sentence"
    return [
        primitive("sentence_first", lambda s: words(s)[0], """extract the first word of {x}|give the word that {x} begins with|return only the opening word of {x}|take the first word out of {x}|keep just the first word of {x}|get the initial word from {x}|show how {x} starts, one word|pick the first word out of {x}""", kind=k),
        primitive("sentence_last", lambda s: words(s)[-1], """extract the last word of {x} without the full stop|give the word that {x} ends with|return only the closing word of {x}|take the last word out of {x}|keep just the last word of {x}|get the final word from {x}|show how {x} ends, one word|pick the last word out of {x}""", kind=k),
        primitive("sentence_subject", lambda s: words(s)[1], """extract the second word of {x}|give word number two of {x}|return only the second word of {x}|take the word after the first in {x}|keep just the second word of {x}|get the second word from {x}|show the word in second place of {x}|pick the second word out of {x}""", kind=k),
        primitive("sentence_reverse", lambda s: " ".join(reversed(words(s))), """reverse the order of the words in {x}|write the words of {x} from last to first|turn the word order of {x} around|give {x} with its words in reverse order, no full stop|flip the sequence of words in {x}|say {x} backwards word by word|put the last word of {x} first and so on|return the words of {x} in opposite order""", kind=k),
        primitive("sentence_acronym", lambda s: "".join(p[0] for p in words(s)).upper(), """make an acronym from {x}|give the first letters of the words in {x} in capitals|return the word initials of {x}|take the first letter of every word in {x}, capitalized|shorten {x} to an acronym|get the initials of {x}|abbreviate {x} by its first letters|build an abbreviation out of {x}""", kind=k),
        primitive("sentence_slug", lambda s: "-".join(words(s)).lower(), """turn {x} into a slug|make a URL slug of {x}|write {x} in lowercase with hyphens and no full stop|convert {x} to a web slug|give the slug form of {x}|format {x} for use in a link|slugify {x}|rewrite {x} as a slug with dashes""", kind=k),
        primitive("sentence_hashtag", lambda s: "#" + "".join(p.capitalize() for p in words(s)), """turn {x} into a hashtag|make one hashtag of {x}|write {x} as # and joined capitalized words|convert {x} to a hashtag|give the hashtag form of {x}|format {x} as a tag for social media|hashtag {x}|rewrite {x} as a hashtag with capitals""", kind=k),
    ]  # fmt: skip


def _code() -> list[Primitive]:
    k = "code"
    c = code_parts
    return [
        primitive("code_prefix", lambda s: c(s)[0], """extract the prefix of {x}|give the letters at the start of {x}|return the first part of {x}|take the leading letters out of {x}|keep just the prefix of {x}|get the part before the first dash from {x}|show the letters that {x} begins with|pick the prefix out of {x}""", kind=k),
        primitive("code_number", lambda s: c(s)[1], """extract the number of {x}|give the four digits of {x}|return the middle part of {x}|take the digits out of {x}|keep just the number of {x}|get the part between the dashes from {x}|show the serial number in {x}|pick the number out of {x}""", kind=k),
        primitive("code_suffix", lambda s: c(s)[2], """extract the suffix of {x}|give the letters at the end of {x}|return the last part of {x}|take the closing letters out of {x}|keep just the suffix of {x}|get the part after the last dash from {x}|show the letters that {x} ends with|pick the suffix out of {x}""", kind=k),
        primitive("code_swap", lambda s: "-".join(reversed(c(s))), """swap the first and last part of {x}|exchange prefix and suffix of {x}|write the parts of {x} in reverse order|turn {x} around part by part|flip the three parts of {x}|give {x} with its parts from last to first|put the suffix of {x} first and the prefix last|reverse the order of the parts in {x}""", kind=k),
        primitive("code_join", lambda s: "".join(c(s)), """remove the dashes from {x}|join the parts of {x} without dashes|write {x} in one piece|close up {x}|delete the hyphens in {x}|squeeze {x} together|turn {x} into one word|give {x} without separators""", kind=k),
        primitive("code_mask", lambda s: f"{c(s)[0]}-****-{c(s)[2]}", """hide the number of {x} behind four stars|mask the digits of {x} with ****|replace the middle part of {x} with stars|censor the serial number in {x}|cover the four digits of {x} with *|protect the number in {x} by ****|show {x} with **** for its number|put four stars in place of the number of {x}""", kind=k),
        primitive("code_slashes", lambda s: "/".join(c(s)), """write {x} with slashes for dashes|replace the dashes of {x} with slashes|join the parts of {x} by slashes|use / between the parts of {x}|turn the hyphens in {x} into slashes|change the separator of {x} to a slash|put slashes between the parts of {x}|give {x} in the slashed form""", kind=k),
    ]  # fmt: skip


def _key_value() -> list[Primitive]:
    k = "key_value"

    def p(s: str) -> list[str]:
        return s.split("=")

    return [
        primitive("pair_key", lambda s: p(s)[0], """extract the key of {x}|give the name of the setting in {x}|return the part of {x} before the equals sign|take what stands left of = in {x}|keep just the key of {x}|get the key from {x}|show which setting {x} names|pick the key out of {x}""", kind=k),
        primitive("pair_value", lambda s: p(s)[1], """extract the value of {x}|give the value of the setting in {x}|return the part of {x} after the equals sign|take what stands right of = in {x}|keep just the value of {x}|get the value from {x}|show to what {x} is set|pick the value out of {x}""", kind=k),
        primitive("pair_swap", lambda s: "=".join(reversed(p(s))), """swap key and value of {x}|exchange the two sides of {x}|write {x} as value=key|turn {x} around the equals sign|flip the sides of {x}|give {x} with the value first|put the value of {x} left and the key right|invert the pair {x}""", kind=k),
        primitive("pair_colon", lambda s: ": ".join(p(s)), """write {x} with a colon and a space for the equals sign|convert {x} to YAML|replace the = of {x} with a colon and space|format {x} like color: blue|turn {x} into key, colon, value|give {x} as a YAML line|change {x} to the colon form|use a colon in {x} in place of =""", kind=k),
        primitive("pair_flag", lambda s: "--" + " ".join(p(s)), """write {x} as a command line flag|convert {x} to an option with two dashes and a space|format {x} like --color blue|turn {x} into a CLI option|give {x} as a long flag with its value|make a command line argument of {x}|change {x} to double dash form|rewrite {x} for the command line""", kind=k),
        primitive("pair_json", lambda s: '"{}": "{}"'.format(*p(s)), """write {x} as a JSON member|convert {x} to JSON with both sides quoted|format {x} like "color": "blue"|turn {x} into a quoted JSON pair|give {x} in JSON notation|make a JSON entry of {x}|change {x} to JSON style|rewrite {x} for a JSON file""", kind=k),
    ]  # fmt: skip


def data_primitives() -> list[Primitive]:
    """Primitives of dates, times, identifiers, prices, addresses, lists, sentences, codes, pairs."""
    return [
        *_date(),
        *_time(),
        *_identifier(),
        *_price(),
        *_address(),
        *_list(),
        *_sentence(),
        *_code(),
        *_key_value(),
    ]
