"""Words that are nobody's name: a detector's guess at a name is held against them.

The words that a language uses (wordfreq, from subtitles, books, news and the web), less all that
is listed as a first or last name, a nickname, a town, a state or a country anywhere.
"""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

import faker.providers.person
from wordfreq import get_frequency_dict

from data_contracts.policy import TAUGHT
from tasks.scrub.synthetic.names import NICKNAMES
from tasks.scrub.synthetic.values import names_and_places

# Once in a million words: names that no list here has are seldom as frequent.
LEAST_FREQUENCY = 1e-6
LEAST_LETTERS = 3


def ordinary_words() -> dict[str, list[str]]:
    """{word in small letters: languages that use it}"""
    named = {part for name in names_and_places() for part in name.split()}
    named |= {part.casefold() for name in listed_names() for part in name.split()}
    words: dict[str, list[str]] = {}
    for code in TAUGHT:
        for word, frequency in get_frequency_dict(code).items():
            if frequency < LEAST_FREQUENCY or len(word) < LEAST_LETTERS or not word.isalpha():
                continue
            if word.casefold() not in named:
                words.setdefault(word.casefold(), []).append(code)
    return dict(sorted(words.items()))


def listed_names() -> Iterator[str]:
    """First and last names of every country that Faker knows, and what friends call each other."""
    for module in iter_modules(faker.providers.person.__path__):
        provider = import_module(f"faker.providers.person.{module.name}").Provider
        for attribute in dir(provider):
            if "name" in attribute and not attribute.startswith("_"):
                listed = getattr(provider, attribute)
                if isinstance(listed, dict | tuple | list | set):
                    yield from (name for name in listed if isinstance(name, str))
    for nicknames in NICKNAMES.values():
        yield from nicknames
