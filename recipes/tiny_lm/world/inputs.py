"""The 14 kinds of input: each sampler draws one line in one of the kind's real formats."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST_NAMES = (
    "Maria Ana John Omar Wei Lena Paul Ravi Sofia Emma Noah Liam Olga Ivan Chloe Hugo Nina Sara Tom Lucy Jack Amir "
    "Zoe Mia Leo Eva Max Ida Yuki Karl Rosa Juan Anna Peter Grace Diego Clara Felix Julia Oscar Alice Simon Laura "
    "Marco Irene David Helen Pablo Vera Adam"
).split()
LAST_NAMES = (
    "Lopez Smith Chen Patel Kim Novak Silva Brown Rossi Weber Garcia Ito Khan Meyer Costa Dubois Evans Fischer "
    "Hansen Ivanov Jones King Larsen Moreau Nguyen Olsen Perez Quinn Reyes Sato Taylor Urban Vega Wong Young Ziegler "
    "Adams Baker Clark Diaz Ellis Ford Gomez Hill Irwin Jensen Klein Lee Marino Nash"
).split()
COMPANIES = (
    "acme globex initech umbra vertex nimbus orbit pixel quanta river solar tango zenith apex bloom cobalt delta ember "
    "fable gamma harbor indigo jasper koala lumen metro nova onyx prism relay"
).split()
TLDS = ("com", "org", "net", "io", "edu", "co")
MONTHS = (
    "January February March April May June July August September October November December"
).split()
WORDS = (
    "user name file order item price total count index list page view data time date code key value hash node path "
    "event group label color size mode state input output table query cache token stock parse sort build send load"
).split()
FOLDERS = "home docs data src tmp img logs work music photos backup notes tests share build".split()
EXTENSIONS = "txt pdf csv png jpg md py json zip log".split()
CITIES = (
    "Austin Boston Denver Miami Oslo Paris Lima Rome Cairo Delhi Tokyo Berlin Madrid Lisbon Dublin Vienna Prague "
    "Chicago Dallas Seattle"
).split()
STREETS = (
    "Oak Elm Pine Main Lake Hill Park Maple Cedar River Church Mill High King Queen Station".split()
)
STREET_TYPES = ("St", "Ave", "Rd", "Ln", "Dr")
ITEMS = (
    "red blue green apple pear plum milk bread rice salt tea iron gold zinc cat dog fox owl bear wolf lamp desk pen "
    "ink cup fork rope sand rain snow wind fire"
).split()
SUBJECTS = "the a my our this that one every".split()
NOUNS = "cat dog boy girl train river house bird ship child tree king cook car moon".split()
VERBS = "runs sees likes finds takes keeps hears makes moves sells holds opens".split()
OBJECTS = "bread water stones balls doors shoes home maps fast today fish music gold snow".split()
KEYS = "color size user mode lang port host level name id type city year unit rate".split()


def person(rng: random.Random) -> str:
    """`Maria Lopez` or `Lopez, Maria`."""
    first, last = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES)
    return f"{last}, {first}" if rng.random() < 0.4 else f"{first} {last}"


def email(rng: random.Random) -> str:
    """`maria.lopez@acme.org`."""
    first, last = rng.choice(FIRST_NAMES).lower(), rng.choice(LAST_NAMES).lower()
    forms = (f"{first}.{last}", f"{first}.{last}", f"{first[0]}.{last}", f"{first}_{last}", first)
    user = rng.choice(forms) + (str(rng.randint(1, 99)) if rng.random() < 0.3 else "")
    return f"{user}@{rng.choice(COMPANIES)}.{rng.choice(TLDS)}"


def phone(rng: random.Random) -> str:
    """`(415) 555-0132` or `+44 20 7946 0958`."""
    if rng.random() < 0.5:
        return f"({rng.randint(201, 989)}) {rng.randint(200, 999)}-{rng.randint(0, 9999):04d}"
    groups = (rng.randint(10, 99), rng.randint(1000, 9999), rng.randint(0, 9999))
    return f"+{rng.randint(20, 98)} {groups[0]} {groups[1]} {groups[2]:04d}"


def date(rng: random.Random) -> str:
    """`2024-03-07`, `03/07/2024` (month first) or `7 March 2024`."""
    year, month, day = rng.randint(1960, 2039), rng.randint(1, 12), rng.randint(1, 28)
    return rng.choice(
        (
            f"{year}-{month:02d}-{day:02d}",
            f"{month:02d}/{day:02d}/{year}",
            f"{day} {MONTHS[month - 1]} {year}",
        )
    )


def time(rng: random.Random) -> str:
    """`14:05` or `2:05 PM`."""
    hour, minute = rng.randint(0, 23), rng.randint(0, 59)
    if rng.random() < 0.5:
        return f"{hour:02d}:{minute:02d}"
    return f"{hour % 12 or 12}:{minute:02d} {'AM' if hour < 12 else 'PM'}"


def url(rng: random.Random) -> str:
    """`https://shop.acme.com/cart/items`, sometimes with a query."""
    host = f"{rng.choice(('www', 'shop', 'api', 'blog', 'm'))}.{rng.choice(COMPANIES)}.{rng.choice(TLDS)}"
    path = "/".join(rng.sample(WORDS, rng.choice((1, 1, 2))))
    query = f"?id={rng.randint(1, 999)}" if rng.random() < 0.3 else ""
    return f"{rng.choice(('https', 'http'))}://{host}/{path}{query}"


def path(rng: random.Random) -> str:
    """`/home/maria/notes.txt`."""
    folders = rng.sample(FOLDERS, rng.choice((1, 2)))
    name = f"{rng.choice(WORDS)}{rng.choice(('', '', str(rng.randint(1, 99))))}"
    return f"{rng.choice(('/', ''))}{'/'.join(folders)}/{name}.{rng.choice(EXTENSIONS)}"


def identifier(rng: random.Random) -> str:
    """`userName`, `user_name`, `user-name` or `UserName`."""
    words = rng.sample(WORDS, rng.choice((2, 2, 3)))
    titles = [word.capitalize() for word in words]
    return rng.choice(
        ("_".join(words), "-".join(words), words[0] + "".join(titles[1:]), "".join(titles))
    )


def price(rng: random.Random) -> str:
    """`$1,299.50` or `EUR 12.00`."""
    whole = rng.choice((rng.randint(1, 99), rng.randint(100, 999), rng.randint(1000, 9999)))
    amount = f"{whole:,}.{rng.choice((0, 5, 25, 50, 75, 99, rng.randint(0, 99))):02d}"
    return f"${amount}" if rng.random() < 0.5 else f"{rng.choice(('EUR', 'USD', 'GBP'))} {amount}"


def address(rng: random.Random) -> str:
    """`12 Oak St, Austin 78701`."""
    street = f"{rng.randint(1, 199)} {rng.choice(STREETS)} {rng.choice(STREET_TYPES)}"
    return f"{street}, {rng.choice(CITIES)} {rng.randint(10000, 99999)}"


def comma_list(rng: random.Random) -> str:
    """`red, blue, green`."""
    return ", ".join(rng.sample(ITEMS, rng.choice((3, 3, 4))))


def sentence(rng: random.Random) -> str:
    """`The cat likes bread.`."""
    words = [rng.choice(SUBJECTS), rng.choice(NOUNS), rng.choice(VERBS), rng.choice(OBJECTS)]
    return " ".join(words).capitalize() + "."


def code(rng: random.Random) -> str:
    """`AB-1234-XY`."""
    letters = [
        "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(rng.choice((2, 2, 3))))
        for _ in range(2)
    ]
    return f"{letters[0]}-{rng.randint(0, 9999):04d}-{letters[1]}"


def key_value(rng: random.Random) -> str:
    """`color=blue`."""
    values = (rng.choice(ITEMS), str(rng.randint(1, 9999)), rng.choice(CITIES).lower())
    return f"{rng.choice(KEYS)}={rng.choice(values)}"


KINDS: dict[str, Callable[[random.Random], str]] = {
    "person": person,
    "email": email,
    "phone": phone,
    "date": date,
    "time": time,
    "url": url,
    "path": path,
    "identifier": identifier,
    "price": price,
    "address": address,
    "list": comma_list,
    "sentence": sentence,
    "code": code,
    "key_value": key_value,
}

NOUNS_OF_KIND: dict[str, tuple[str, ...]] = {
    "person": ("a person's name", "the full name", "the name"),
    "email": ("an email address", "the email", "the e-mail address"),
    "phone": ("a phone number", "the phone number", "the telephone number"),
    "date": ("a date", "the date", "the given date"),
    "time": ("a time of day", "the time", "the clock time"),
    "url": ("a URL", "the web address", "the link"),
    "path": ("a file path", "the path", "the file's path"),
    "identifier": ("an identifier", "the variable name", "the identifier"),
    "price": ("a price", "the price", "the amount"),
    "address": ("a postal address", "the address", "the street address"),
    "list": ("a comma-separated list", "the list", "the list of items"),
    "sentence": ("a sentence", "the sentence", "the short sentence"),
    "code": ("a product code", "the code", "the part number"),
    "key_value": ("a key=value pair", "the setting", "the pair"),
    "text": ("the text", "the input", "the line", "the string"),
}
"""How a description may call the input; `text` is for tasks that take every kind."""


def any_kind(rng: random.Random) -> str:
    """A line of any kind."""
    return KINDS[rng.choice(tuple(KINDS))](rng)
