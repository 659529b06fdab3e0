"""Invented personal data: names, places, numbers and secrets, in the forms of many countries."""

import string
from collections.abc import Callable

from tasks.scrub.synthetic import words
from tasks.scrub.synthetic.names import TITLES, Names
from tasks.scrub.synthetic.places import COUNTRY_NAMES, Places, geonames
from tasks.scrub.synthetic.source import FALLBACK, LANGUAGES, Source, is_for_audits

__all__ = ["ENTITIES", "LANGUAGES", "Values", "is_for_audits", "names_and_places"]

# The entity of each slot; what is not named here is nobody's data.
ENTITIES = {
    "name": "PERSON",
    "first_name": "PERSON",
    "other_first_name": "PERSON",
    "last_name": "PERSON",
    "nickname": "PERSON",
    "initials": "PERSON",
    "address": "LOCATION",
    "street_address": "LOCATION",
    "street": "LOCATION",
    "building": "LOCATION",
    "postcode": "LOCATION",
    "city": "LOCATION",
    "state": "LOCATION",
    "country": "LOCATION",
    "place": "LOCATION",
    "organization": "ORGANIZATION",
    "date_of_birth": "DATE_OF_BIRTH",
    "username": "USERNAME",
    "handle": "USERNAME",
    "password": "SECRET",
    "secret": "SECRET",
    "id_number": "ID_NUMBER",
    "phone": "PHONE_NUMBER",
    "card": "CREDIT_CARD",
    "iban": "IBAN_CODE",
    "email": "EMAIL_ADDRESS",
    "ip": "IP_ADDRESS",
    "url": "URL",
    "wallet": "CRYPTO",
}
ID_FORMS = (
    "########", "#########", "######", "@#######", "@@######", "@@######@", "###-##-####",
    "##-#######", "### ### ###", "#########@@", "@@@-####", "@@## @@@", "##########",
    "###########", "######-####", "@##-###-##-###", "####-####-####",
)  # fmt: skip
ENGLISH_IBANS = ("de_DE", "en_GB", "fr_FR", "es_ES")
IBANS = {
    "de": ("de_DE", "de_AT", "de_CH"), "fr": ("fr_FR", "fr_CH", "nl_BE"), "es": ("es_ES",),
    "it": ("it_IT",), "pt": ("pt_PT", "pt_BR"), "nl": ("nl_NL", "nl_BE"),
}  # fmt: skip


class Values:
    """Draws values of slots, the same for the same seed.

    Args:
        seed: of everything drawn.
        for_audits: names and places that are kept from training, instead of the others.
    """

    def __init__(self, seed: int, *, for_audits: bool = False) -> None:
        self._source = Source(seed, for_audits=for_audits)
        self.draw = self._source.draw
        self._names = Names(self._source)
        self._places = Places(self._source, self._names)
        own = {slot: getattr(self, f"_{slot}", None) for slot in ENTITIES}
        self._slots: dict[str, Callable[[], str]] = {
            slot: own[slot] or getattr(self._names, slot, None) or getattr(self._places, slot)
            for slot in ENTITIES
        } | {
            "title": lambda: self._choice(TITLES[self._language]),
            "nationality": lambda: self._choice(words.NATIONALITIES),
            "product": lambda: self._choice(words.PRODUCTS),
            "adjective": lambda: self._choice(words.ADJECTIVES),
            "weather": lambda: self._choice(words.WEATHER),
            "month": lambda: self._choice(words.MONTHS[self._language]),
            "weekday": lambda: self._choice(words.WEEKDAYS[self._language]),
            "date": lambda: self._written("date_object"),
            "time": self._time,
            "month_year": lambda: f"{self.draw.randint(1, 12):02}/{self.draw.randint(24, 31)}",
            "number": self._number,
            "age": lambda: str(self.draw.randint(3, 97)),
            "digit": lambda: str(self.draw.randint(0, 9)),
            "money": self._money,
            "job": self._job,
            "order_id": lambda: self._code(("####-####", "#######", "@#######")),
            "secret_name": lambda: self._choice(("API_KEY", "TOKEN", "DB_PASSWORD", "SECRET")),
        }

    @property
    def slots(self) -> frozenset[str]:
        return frozenset(self._slots)

    def country(self, language: str = "en") -> None:
        """Choose another country of the language, whose values are drawn from now on.

        Raises:
            KeyError: there is no such language.
        """
        self._source.country(language)

    def value(self, slot: str) -> str:
        """Raises KeyError: there is no such slot."""
        return self._slots[slot]()

    @property
    def _language(self) -> str:
        return self._source.language

    def _choice(self, choices: tuple[str, ...]) -> str:
        return self.draw.choice(choices)

    def _code(self, forms: tuple[str, ...]) -> str:
        return self._source.code(self.draw.choice(forms))

    # -- organisations, dates, numbers ------------------------------------------------------

    def _organization(self) -> str:
        kind = self.draw.random()
        if kind < 0.2 or (self._language != "en" and kind < 0.6):
            return self._company()
        if kind < 0.5 or self._language != "en":
            return self._source.fake("company")
        if kind < 0.65:
            ends = ("University", "Bank", "Hospital", "City FC")
            return f"{self._places.city()} {self._choice(ends)}"
        if kind < 0.75:
            return f"University of {self._places.city()}"
        if kind < 0.9:
            named = [self._word().title() for _ in range(self.draw.randint(1, 2))]
            return " ".join(named) + self._choice(
                (" Inc", " Ltd", " PLC", " Group", " AG", " Bank", " Foods", "", " Fund", " S.A.")
            )
        return "".join(self.draw.choices(string.ascii_uppercase, k=self.draw.randint(2, 5)))

    def _company(self) -> str:
        form = self._choice(words.COMPANIES[self._language])
        slots: dict[str, Callable[[], str]] = {
            "{last}": self._names.last_name,
            "{first}": self._names.first_name,
            "{city}": self._places.city,
            "{word}": self._word,
            "{Word}": lambda: self._word().title(),
        }
        for slot, draw in slots.items():
            while slot in form:
                form = form.replace(slot, draw(), 1)
        return form

    def _word(self) -> str:
        return self._source.fake("word", FALLBACK)

    def _date_of_birth(self) -> str:
        return self._written("date_of_birth")

    def _written(self, kind: str) -> str:
        """A date of Faker's, as people write dates in the language."""
        drawn = getattr(self._source.faker(FALLBACK), kind)()
        if self._language == "en":
            return str(drawn.strftime(self._choice(words.DATE_FORMATS)))
        month = words.MONTHS[self._language][drawn.month - 1]
        form = self._choice(words.LOCAL_DATES[self._language])
        return str(drawn.strftime(form.format(day=drawn.day, month=month, number=drawn.month)))

    def _time(self) -> str:
        hour, minute = self.draw.randint(0, 23), self.draw.randint(0, 59)
        if self._language != "en":
            return self._choice((f"{hour}:{minute:02}", f"{hour:02}:{minute:02}", f"{hour} h"))
        return self._choice((f"{hour}:{minute:02}", f"{hour % 12 + 1} pm", f"{hour % 12 + 1}am"))

    def _number(self) -> str:
        return str(self.draw.randint(1, self.draw.choice((9, 99, 2000))))

    def _money(self) -> str:
        amount = self.draw.randint(1, self.draw.choice((99, 5000)))
        if self._language != "en":
            return self._choice(words.MONEY).format(n=amount)
        return self._choice((f"${amount}", f"{amount} euros", f"£{amount}.99", f"{amount} USD"))

    def _job(self) -> str:
        if self._language != "en":
            return self._choice(words.JOBS[self._language])
        return self._source.fake("job").split(",")[0].lower()

    def _id_number(self) -> str:
        if self._language != "en" and self.draw.random() < 0.7:
            return self._places.paper()
        return self._code(ID_FORMS)

    # -- money and technical ----------------------------------------------------------------

    def _card(self) -> str:
        digits = str(self._source.faker(FALLBACK).credit_card_number())
        if self.draw.random() < 0.5:
            joint = self.draw.choice(" -")
            return joint.join(digits[at : at + 4] for at in range(0, len(digits), 4))
        return digits

    def _iban(self) -> str:
        locale = self._choice(IBANS.get(self._language, ENGLISH_IBANS))
        iban = self._source.fake("iban", locale)
        if self.draw.random() < 0.4:
            return " ".join(iban[at : at + 4] for at in range(0, len(iban), 4))
        return iban

    def _email(self) -> str:
        locale = FALLBACK if self._language == "en" else self._source.home()
        return self._source.fake("email", locale)

    def _ip(self) -> str:
        fake = self._source.faker(FALLBACK)
        return str(fake.ipv4() if self.draw.random() < 0.7 else fake.ipv6())

    def _url(self) -> str:
        host = self._source.fake("domain_name", FALLBACK)
        return f"https://{host}/{self._code(('~~~~',))}?token={self._secret()}"

    def _secret(self) -> str:
        letters = string.ascii_letters + string.digits
        text = "".join(self.draw.choices(letters, k=self.draw.randint(24, 40)))
        hexadecimal = "".join(self.draw.choices(string.hexdigits[:16], k=40))
        return self._choice(
            (f"sk-{text}", f"ghp_{(text * 2)[:36]}", f"AKIA{text[:16].upper()}", hexadecimal, text)
        )

    def _password(self) -> str:
        if self.draw.random() < 0.5:
            return f"{self._word()}{self.draw.randint(1, 2030)}{self.draw.choice(('', *'!#?'))}"
        return str(self._source.faker(FALLBACK).password(length=self.draw.randint(6, 14)))

    def _wallet(self) -> str:
        if self.draw.random() < 0.5:
            return "0x" + "".join(self.draw.choices("0123456789abcdef", k=40))
        return "bc1q" + "".join(self.draw.choices("023456789acdefghjklmnpqrstuvwxyz", k=38))


def names_and_places() -> dict[str, str]:
    """{in small letters: entity} of listed first and last names of English, cities, states and
    countries. What is several of them is a state or country, else a first name, else a city."""
    source = Source(0)

    def people(kind: str) -> set[str]:
        return {
            source.fake(kind, locale) for locale in ("en_US", "en_GB", "en_IN") for _ in range(3000)
        }

    places = [geonames()[kind] for kind in ("cities", "states", "countries")]
    named = dict.fromkeys(people("last_name"), "PERSON")
    named |= dict.fromkeys(places[0], "LOCATION")
    named |= dict.fromkeys(people("first_name"), "PERSON")
    named |= dict.fromkeys((*places[1], *places[2], *COUNTRY_NAMES), "LOCATION")
    return {name.casefold(): entity for name, entity in named.items()}
