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

# Three times in ten million words for what is written small; once in a million for what may be
# written as a name is: names that no list here has are seldom as frequent.
SMALL, LARGE = 3e-7, 1e-6
LEAST_LETTERS = 3
# German writes every noun large, and puts new ones together.
NOUNS = "de"


def ordinary_words() -> dict[str, list[str]]:
    """{`small`: words that are ordinary where they are written small, `large`: also at the start of
    a sentence, `nouns`: also amid a German one}, all in small letters."""
    named = {part for name in names_and_places() for part in name.split()}
    named |= {part.casefold() for name in listed_names() for part in name.split()}
    words: dict[str, set[str]] = {"small": set(), "large": set(), "nouns": set()}
    for code in TAUGHT:
        for word, frequency in get_frequency_dict(code).items():
            if frequency < SMALL or len(word) < LEAST_LETTERS or not word.isalpha():
                continue
            folded = word.casefold()
            if folded not in named:
                words["small"].add(folded)
                if frequency >= LARGE:
                    words["large"].add(folded)
                if code == NOUNS:
                    words["nouns"].add(folded)
    return {kind: sorted(some) for kind, some in words.items()}


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
