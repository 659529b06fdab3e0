"""Values of slots that are nobody's data: words, products, numbers of all kinds."""

import uuid
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources

from faker import Faker

from tasks.scrub.synthetic.source import by_share
from tasks.scrub.synthetic.values import ENTITIES, Values

# Faker has no Portuguese words: spaCy's frequent ones stand in.
FAKER_WORDS = {
    "en": "en_US", "de": "de_DE", "fr": "fr_FR", "es": "es_ES", "it": "it_IT", "nl": "nl_NL",
}  # fmt: skip
# Lists that are shorter than this are the same for audits and for training.
SHORTEST_DIVIDED = 20
PLACES_AMONG_WORDS = {"deutschland", "europa", "amerika", "paris", "france", "españa", "italia"}
HEX = "0123456789abcdef"


class Vocabulary:
    """Draws words and numbers, and, for the slots that name an entity, personal data.

    Args:
        values: of personal data; its generator draws everything.
        for_audits: words that are kept from training, instead of the others.
    """

    def __init__(self, values: Values, *, for_audits: bool = False) -> None:
        self.draw = values.draw
        self.language = "en"
        self._values = values
        self._for_audits = for_audits
        self._numbers: dict[str, Callable[[], str]] = {
            "small": lambda: self._int(1, 9),
            "big": lambda: self._digits(self.draw.randint(3, 7)),
            "two": lambda: f"{self.draw.randint(1, 28):02}",
            "month_number": lambda: f"{self.draw.randint(1, 12):02}",
            "three": lambda: self._digits(3),
            "year": lambda: self._int(1950, 2030),
            "decimal": self._decimal,
            "percent": lambda: f"{self.draw.choice((self._int(1, 100), self._decimal()))}%",
            "price": self._price,
            "version": lambda: ".".join(self._int(0, 19) for _ in range(self.draw.randint(2, 4))),
            "clock": lambda: f"{self.draw.randint(0, 23):02}:{self.draw.randint(0, 59):02}",
            "date_iso": lambda: (
                f"{self._int(1998, 2030)}-{self.value('month_number')}-{self.value('two')}"
            ),
            "stamp": self._stamp,
            "epoch": lambda: str(self.draw.randint(1_000_000_000, 1_999_999_999)),
            "port": lambda: self.draw.choice(("80", "443", "8080", self._int(1024, 65535))),
            "binary": lambda: "".join(self.draw.choices("01", k=8)),
            "hex": lambda: "".join(self.draw.choices(HEX, k=self.draw.choice((4, 6, 8)))),
            "sha": lambda: "".join(self.draw.choices(HEX, k=self.draw.choice((7, 12, 40, 64)))),
            "dna": lambda: "".join(self.draw.choices("ACGT", k=self.draw.randint(4, 12))),
            "uuid": lambda: str(uuid.UUID(int=self.draw.getrandbits(128), version=4)),
            "sku": lambda: f"{self._letters(self.draw.randint(2, 4))}-{self._digits(4)}",
            "path": self._path,
            "snake": lambda: "_".join(self._nouns(2)),
            "CONST": lambda: "_".join(self._nouns(2)).upper(),
            "camel": lambda: self.value("verb") + self.value("noun").title(),
            "Pascal": lambda: "".join(noun.title() for noun in self._nouns(2)),
            "heading": lambda: self._heading(),
        }

    def value(self, slot: str) -> str:
        """Raises KeyError: there is no such slot."""
        if slot in ENTITIES:
            return self._values.value(slot)
        if slot in self._numbers:
            return self._numbers[slot]()
        if slot == "word":
            return self._word()
        if slot in vocabulary():
            return self.draw.choice(self._divided(vocabulary()[slot]))
        if slot[0].isupper():
            drawn = self.value(slot.lower())
            return drawn.upper() if slot.isupper() else self._capitalized(slot, drawn)
        return self._values.value(slot)

    def _capitalized(self, slot: str, drawn: str) -> str:
        return drawn.title() if slot == "Heading" else drawn[:1].upper() + drawn[1:]

    def _divided(self, listed: tuple[str, ...]) -> tuple[str, ...]:
        if len(listed) < SHORTEST_DIVIDED:
            return listed
        return by_share(listed, for_audits=self._for_audits)

    def _word(self) -> str:
        return self.draw.choice(self._divided(frequent_words(self.language)))

    def _nouns(self, most: int) -> list[str]:
        return [self.value("noun") for _ in range(self.draw.randint(1, most))]

    def _heading(self) -> str:
        kinds = self.draw.choices(("noun", "adjective", "verb", "word"), (6, 3, 2, 2), k=3)
        return " ".join(map(self.value, kinds[: self.draw.randint(1, 3)]))

    def _int(self, low: int, high: int) -> str:
        return str(self.draw.randint(low, high))

    def _digits(self, count: int) -> str:
        return str(self.draw.randint(10 ** (count - 1), 10**count - 1))

    def _letters(self, count: int) -> str:
        return "".join(self.draw.choices("ABCDEFGHJKLMNPRSTUVWXYZ", k=count))

    def _decimal(self) -> str:
        places = self.draw.choice((1, 1, 2, 2, 3, 6))
        number = self.draw.uniform(0, self.draw.choice((1, 10, 100, 5000)))
        return f"{number:.{places}f}"

    def _price(self) -> str:
        amount = self.draw.choice((self._int(1, 99), self._int(100, 3000), "1,299", "12.999"))
        return self.draw.choice(
            (f"${amount}", f"${amount}.99", f"{amount} €", f"{amount},99 €", f"€{amount}",
             f"£{amount}", f"{amount} EUR", f"USD {amount}.00", f"R$ {amount}", f"CHF {amount}.-")
        )  # fmt: skip

    def _stamp(self) -> str:
        date, clock, second = self.value("date_iso"), self.value("clock"), self.value("two")
        return self.draw.choice(
            (
                f"{date}T{clock}:{second}Z", f"{date} {clock}:{second}",
                f"{date} {clock}:{second},{self._digits(3)}", f"{date}T{clock}:{second}+00:00",
                f"{date}T{clock}:{second}.{self._digits(6)}Z",
            )
        )  # fmt: skip

    def _path(self) -> str:
        start = self.draw.choice(("/var/log", "/usr/lib", "./src", "/etc", "/opt", "data", "~"))
        return "/".join((start, *self._nouns(2)))


@cache
def vocabulary() -> dict[str, tuple[str, ...]]:
    """{slot: its words}, from `vocabulary.txt`."""
    folder = resources.files("tasks.scrub.synthetic.plain_kinds")
    lines = folder.joinpath("vocabulary.txt").read_text(encoding="utf-8").splitlines()
    divided = (line.split(": ", maxsplit=1) for line in lines if not line.startswith("#"))
    return {slot: tuple(dict.fromkeys(listed.split(" | "))) for slot, listed in divided}


@cache
def frequent_words(language: str) -> tuple[str, ...]:
    """Frequent words of a language, without those that are also first names there."""
    if language in FAKER_WORDS:
        faker = Faker(FAKER_WORDS[language])
        faker.seed_instance(0)
        listed: Sequence[str] = faker.get_words_list()
        names = {faker.first_name().casefold() for _ in range(1000)}
    else:
        from spacy.lang.pt.stop_words import STOP_WORDS

        listed, names = sorted(STOP_WORDS), set()
    proper = names | PLACES_AMONG_WORDS
    return tuple(dict.fromkeys(word for word in listed if word.casefold() not in proper))
