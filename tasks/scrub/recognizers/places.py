"""Postcodes, post boxes, and street addresses of a dozen languages."""

import re

from presidio_analyzer import Pattern

from tasks.scrub.recognizers.base import DIGIT, ContextPatternRecognizer, names
from tasks.scrub.recognizers.surroundings import is_amount

_STATES = (
    "A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|PR|RI|S[CD]"
    "|T[NX]|UT|V[AT]|W[AIVY]"
)

_GROUPS = re.compile(r"[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}|[ABCEGHJ-NPRSTVXY]\d[A-Z] \d[A-Z]\d")


class PostcodeRecognizer(ContextPatternRecognizer):
    """Postcodes of Great Britain, Canada, the Netherlands and the USA, by their form where it
    is like no other, and otherwise near their name; numbers of any country's form near that name.

    https://en.wikipedia.org/wiki/Postcodes_in_the_United_Kingdom#Validation
    """

    ENTITY = "LOCATION"
    PATTERNS = (
        Pattern(
            "UK",
            r"[A-PR-UWYZa-pr-uwyz](?<!\w.)(?i:\d[\dA-HJKPSTUW]?|[A-HK-Y]\d[\dABEHMNPRVWXY]?)"
            r" ?\d(?i:[ABD-HJLNP-UW-Z]{2})(?!\w)",
            0.25,
        ),
        Pattern("Canada", r"[A-Ya-y](?<!\w.)\d[A-Za-z][ -]?\d[A-Za-z]\d(?!\w)", 0.2),
        Pattern("Netherlands", r"[1-9](?<![\w.,-].)\d{3} ?(?!S[ADS])[A-Z]{2}(?!\w)", 0.3),
        Pattern("USA, ZIP+4", r"\d(?<![\w-]\d)\d{4}-\d{4}(?![\w-])", 0.5),
        Pattern("USA, state", rf"(?:{_STATES})(?<!\w..),? (?P<datum>\d{{5}})(?![\w-])", 0.7),
        Pattern("digits", r"\d(?<![\w.,$€£#-]\d)\d{1,3}[ -]?\d{2,4}(?![\w-]|[.,]\d)", 0.1),
    )
    CONTEXT = (
        "postcode", "post code", "postal code", "postal", "zip", "zipcode", "zip code", "plz",
        "postleitzahl", "code postal", "código postal", "codigo postal", "cap", "cep", "postnummer",
        "pincode", "pin code", "eircode",
    )  # fmt: skip
    FLAGS = re.ASCII
    gate = DIGIT

    def weigh(self, value: str, score: float) -> float:
        """In capitals and two groups, letters among digits are like nothing else."""
        return 0.6 if _GROUPS.fullmatch(value) else score


# A capitalised word, and the small words that stand between the words of a street's name.
_CAP = r"[A-ZÀ-Þ][\w'\u2019.-]{0,24}"
_SMALL = (
    r"(?:de la|de las|de los|della|delle|degli|dello|dei|del|des|du|de|da|das|dos|do|di|van de"
    r"|van der"
    r"|van|den|der|y|e|la|le|les|l['\u2019]|d['\u2019]|dell['\u2019]|the)"
)
_ROMANCE_NAME = (
    rf"(?:{_SMALL} ?){{0,2}}(?:{_CAP}"
    rf"|\d{{1,2}} (?:de )?[A-Za-z]{{3,12}})(?: (?:{_SMALL} ?){{0,2}}{_CAP}){{0,4}}"
)
_HOUSE = r"\d{1,4}(?: ?[a-zA-Z](?!\w))?(?: ?[-/+] ?\d{1,4}[a-zA-Z]?(?!\w))?"
# What may follow a street and number: a floor or flat, then postcode and town.
_FLAT = (
    r"(?:,? (?:\d{1,2}[ºª°o]\.? ?(?:[A-Z](?!\w)|izq\.?|dcha\.?|Esq\.?|Dto\.?|[Pp]iano)?"
    r"|[Aa]pto?\.? ?#?\w{1,5}|[Aa]ppartement \w{1,4}|bus \w{1,3}|Top \d{1,3}|int(?:erno"
    r"|\.) ?\w{1,3}"
    r"|bloco \w{1,3}|andar \w{1,3})){0,2}"
)
_TOWN = (
    rf"(?:,? ?\s(?:[A-Z]{{1,2}}-)?(?:\d{{4}} [A-Z]{{2}}|\d{{4}}-\d{{3}}|\d{{5}}-\d{{3}}"
    rf"|\d{{4,6}}) {_CAP}"
    rf"(?:[ -]{_CAP}){{0,2}}| ?, {_CAP}(?:[ -]{_CAP}){{0,2}}(?: (?:\(?[A-Z]{{2}}\)?"
    rf"|- ?[A-Z]{{2}}))?)?"
)
_TAIL = _FLAT + _TOWN + r"(?!\w)"
_GERMANIC = (
    r"(?:stra(?:ß|ss)e|str\.|gasse|weg|platz|allee|damm|ufer|chaussee|steig|graben|promenade|pfad|kai"
    r"|stieg|straat|laan|plein|gracht|kade|dijk|singel|steeg|dreef|plantsoen|steenweg)"
)
_ENGLISH = (
    r"(?:Street|Str|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Drive|Dr|Lane|Ln|Court|Ct|Crescent|Cres|Terrace"
    r"|Place|Pl|Square|Sq|Close|Way|Highway|Hwy|Parkway|Pkwy|Circle|Cir|Trail|Trl|Gardens|Grove|Mews|Row"
    r"|Nagar|Marg|Alley|Walk|Hill|Loop|Broadway|Plaza|Turnpike|Pike)"
)
_ENGLISH_TOWN = (
    rf"(?:,? {_CAP}(?: {_CAP}){{0,2}}){{0,3}}?(?:,? (?:{_STATES}|[A-Z]{{2,3}}))?,?[ -]{{1,3}}"
    r"(?:\d{5,6}(?:-\d{4})?|\d{4}|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|[A-Z]\d[A-Z] ?\d[A-Z]\d)(?!\w)"
)
# Words of which the end only looks like a street's: a place of work is none.
_NO_STREET = re.compile(
    r"(?:Arbeits|Spiel|Stell|Park|Sitz|Lager|Fest|Steck|Speicher|Um|Aus|Rück|Heim|Lebens|Rechts|Ab|Zu"
    r"|Mittel|Fahr|Rad|Land|Ein)(?:platz|weg|straße|graben|steig)\b",
    re.IGNORECASE,
)
# "via" is also English and Latin: only after a word of Italian, or before a name of two words.
_VIA = r"(?:(?<=[Aa]bito in )|(?<=[Vv]ivo in )|(?<=[Ss]ono in )|(?<=indirizzo: )|(?<=presso ))via"


_IN_YEAR = re.compile(
    r"\b(?:in|since|until|by|of|from|early|late|mid|en|im|seit|ab|dal|nel|em|de)[ -]$", re.I
)


class AddressRecognizer(ContextPatternRecognizer):
    """A street with the number of a house, and what follows it of flat, postcode and town.

    The kind of street is named before (rue, calle, via, rua), after (Road, Caddesi) or at the end
    of its name (Lindenstraße, Kerkstraat). Without a number it is left to the detector.
    """

    ENTITY = "LOCATION"
    PATTERNS = (
        Pattern(
            "street and number",
            rf"[A-ZÄÖÜ](?<!\w.)[\wß'\u2019.-]{{1,24}}?(?:{_GERMANIC}|[- ]{_GERMANIC}"
            rf"|[- ]Str(?:aße|asse|\.))"
            rf" {_HOUSE}(?:-[IVX]{{1,4}}|(?:-| )(?:bis|hs|huis)\b)?{_TAIL}",
            0.8,
        ),
        Pattern(
            "street of several words",
            rf"(?<!\w)(?:Am|An (?:der|den|dem)|Auf (?:der|dem)|Im|In (?:der|den)|Unter den|Zum"
            rf"|Zur|Alte[rn]?|Neue[rn]?"
            rf"|Gro(?:ß|ss)e[rn]?|Kleine[rn]?|[A-ZÄÖÜ]\w{{2,16}}er) {_CAP}(?: {_CAP})?,? {_HOUSE}"
            rf",? ?\s(?:[A-Z]{{1,2}}-)?\d{{4,5}} {_CAP}",
            0.8,
        ),
        Pattern(
            "number and street",
            rf"\d(?<![\w.,$€£-]\d)\d{{0,4}}[A-Za-z]?(?:-\d{{1,4}})?,? (?:[NSEW]\.? |(?:North"
            rf"|South|East|West) )?"
            rf"(?:{_CAP} |\d{{1,3}}(?:st|nd|rd|th) ){{1,4}}?{_ENGLISH}\b\.?(?: (?:NW|NE|SW|SE"
            rf"|[NSEW])\b)?"
            r"(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|#)\.? ?#?\w{1,5})?"
            rf"(?:{_ENGLISH_TOWN})?",
            0.8,
        ),
        Pattern(
            "flat, number and street",
            rf"(?<!\w)(?:Flat|Apt|Apartment|Unit"
            rf"|Suite)\.? ?#?\w{{1,4}},? \d{{1,5}}[A-Za-z]? (?:{_CAP} ){{1,4}}?"
            rf"{_ENGLISH}\b(?:{_ENGLISH_TOWN})?",
            0.8,
        ),
        Pattern(
            "French",
            r"\d(?<![\w.,]\d)\d{0,3}(?: ?(?:bis|ter|quater|[A-D])\b)?,? (?i:rue|avenue|av\."
            r"|boulevard|bd\.?|place"
            r"|chemin|impasse|allée|quai|route|cours|square|passage|faubourg|sentier|villa)"
            rf" {_ROMANCE_NAME}{_TAIL}",
            0.8,
        ),
        Pattern(
            "Spanish",
            r"(?<!\w)(?i:calle|avenida|av\.|avda\.?|plaza|pza\.?|paseo|carretera|ronda|travesía|glorieta|camino|carrera)"
            rf" {_ROMANCE_NAME},? (?:n[ºo°.]\.? ?|núm\.? |# ?)?{_HOUSE}{_TAIL}",
            0.8,
        ),
        Pattern(
            "Spanish, short", rf"(?<!\w)[Cc]/ ?{_ROMANCE_NAME},? (?:n[ºo°.] ?)?{_HOUSE}{_TAIL}", 0.8
        ),
        Pattern(
            "Italian",
            rf"(?<!\w)(?:Via|Viale|Piazza|Piazzale|Corso|Largo|Vicolo|Strada|Lungomare|Contrada|Borgo|viale|piazza"
            rf"|corso|vicolo|{_VIA}) {_ROMANCE_NAME},? (?:n\.? ?)?{_HOUSE}{_TAIL}",
            0.8,
        ),
        Pattern(
            "Portuguese",
            r"(?<!\w)(?i:rua|r\.|av\.|avenida|travessa|praça|alameda|rodovia|beco|calçada|estrada) "
            rf"{_ROMANCE_NAME},? (?:n[ºo°.] ?)?{_HOUSE}{_TAIL}",
            0.8,
        ),
        Pattern(
            "Turkish",
            rf"{_CAP}(?: {_CAP}){{0,2}} (?:Caddesi|Cad\.|Sokak|Sokağı|Sok\.|Bulvarı|Mahallesi)"  # noqa: RUF001
            r"(?: [Nn]o:?)? ?\d{1,4}",
            0.8,
        ),
        Pattern(
            "Russian",
            r"(?<!\w)(?:улиц[аеыу]|ул\.|проспект[еау]?|пр-т|переул\w{2,4}|бульвар\w?"  # noqa: RUF001
            r"|шоссе) [А-ЯЁ][а-яё-]{2,20}"  # noqa: RUF001
            r"(?: [А-ЯЁ]?[а-яё-]{2,20})?,? ?(?:дом |д\. ?)?\d{1,4}",  # noqa: RUF001
            0.8,
        ),
        Pattern(
            "Chinese and Japanese",
            r"(?:〒\d{3}-?\d{4} ?)?[\u4e00-\u9fff](?<![省市区县府県都]省.)[\u4e00-\u9fff]{1,14}"
            r"(?:\d{1,5}号(?:\d{1,4}[室楼栋])?|\d{1,2}丁目(?:\d{1,3}(?:番地?|-\d{1,3})\d{0,3}号?)?"
            r"|\d{1,3}-\d{1,3}-\d{1,3})",
            0.8,
        ),
        Pattern("Japanese postcode", r"〒 ?\d{3}-?\d{4}", 0.8),
        Pattern("Korean", r"[가-힣]{1,8}(?:로|길) ?\d{1,4}(?:-\d{1,3})?(?:번지|호)?", 0.8),
        Pattern("Arabic", r"شارع [\u0620-\u064a ]{2,24}? رقم \d{1,4}", 0.8),
    )
    FLAGS = 0
    gate = DIGIT

    def weigh(self, value: str, score: float) -> float:
        return 0 if not value or _NO_STREET.search(value) else score

    def span(self, match: re.Match[str]) -> tuple[int, int]:
        """Nothing where the number of a house is an amount: 'Landstraße 66 km lang'."""
        start, end = match.span()
        is_year = re.match(r"(?:19|20)\d\d (?!\d)", match[0]) and _IN_YEAR.search(
            match.string[max(start - 8, 0) : start]
        )
        if is_amount(match.string, start, end) or is_year:
            return start, start
        return start, end


class PostBoxRecognizer(ContextPatternRecognizer):
    """Post boxes: PO Box 12, Postfach 12, BP 12, Apartado de Correos 12."""

    ENTITY = "LOCATION"
    PATTERNS = (
        Pattern(
            "box",
            names(
                r"p\.? ?o\.? ?box",
                "postfach",
                "boîte postale",
                "case postale",
                "apartado(?: de correos)?",
                "casella postale",
                "caixa postal",
                "postbus",
                "private bag",
            )
            + r"(?: (?:no|nr|n[º°])\.?)?:? ?\d(?:[ .]?\d){0,5}",
            0.8,
        ),
    )
    gate = DIGIT
