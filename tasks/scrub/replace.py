"""What stands in the place of personal data: a placeholder, a pseudonym or a surrogate.

- placeholder: `<PERSON_1>`, numbered within a conversation;
- pseudonym: `<PERSON_3f9a2c81b0de>`, digits that only who has the key can compute;
- surrogate: an invented value of the same kind and format, drawn with the key.

Values are the same if they differ only in case, white space or Unicode's compatibility forms.
"""

import calendar
import hmac
import ipaddress
import os
import re
import string
import unicodedata
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, TypeAlias

from data_contracts.checksums import luhn_digit
from data_contracts.digests import digest_json
from data_contracts.errors import ConfigError
from data_contracts.findings import Finding
from data_contracts.policy import PLACEHOLDER, ScrubPolicy

if TYPE_CHECKING:
    from faker import Faker

KEY_VARIABLE = "EVERGREEN_SCRUB_KEY"
KEY_FILE_VARIABLE = "EVERGREEN_SCRUB_KEY_FILE"
KEY_BYTES = 16

PSEUDONYM_DIGITS = 12
# Kinds with few members (state codes, single digits) run out: then a pseudonym stands.
DRAWS = 100

Identity: TypeAlias = tuple[str, str]
Inventor: TypeAlias = Callable[[str, Random], str]


def secret_key(policy: ScrubPolicy) -> bytes | None:
    """The key of pseudonyms and surrogates; None if the policy needs none.

    Read from the variable EVERGREEN_SCRUB_KEY or else from the file that
    EVERGREEN_SCRUB_KEY_FILE names, without the line break at its end.

    Raises:
        ConfigError: it is needed and missing, unreadable or shorter than 16 bytes.
    """
    if not policy.needs_key:
        return None
    fix = (
        f"put a key, as of `openssl rand -hex 32`, in {KEY_VARIABLE},"
        f" or in a file that {KEY_FILE_VARIABLE} names"
    )
    try:
        if value := os.environ.get(KEY_VARIABLE):
            key = os.fsencode(value)
        elif file := os.environ.get(KEY_FILE_VARIABLE):
            key = Path(file).read_bytes()
        else:
            raise ConfigError("the scrub policy needs a secret key and there is none", fix)
    except OSError:  # its message quotes the name, which may be a key in the wrong variable
        raise ConfigError(f"cannot read the file that {KEY_FILE_VARIABLE} names", fix) from None
    key = key.rstrip(b"\r\n")
    if len(key) < KEY_BYTES:
        raise ConfigError(f"the secret key of the scrub is shorter than {KEY_BYTES} bytes", fix)
    return key


def fingerprint(key: bytes | None) -> str | None:
    """Tells one key from another without telling the key; None if there is none."""
    return hmac.digest(key, b"fingerprint", "sha256").hex()[:16] if key else None


class Replacer:
    """Replaces the findings of one conversation.

    The same value of an entity gets the same stand-in throughout the conversation, and two
    values never share one. Where the policy is consistent everywhere, pseudonyms and surrogates
    are the same in every conversation, unless another value (or the text itself) already has
    that stand-in there. Placeholders are always numbered by conversation.

    Args:
        policy: says what stands for which entity.
        texts: all texts of the conversation, so that `<PERSON_1>` that stands in one of them
            is never taken for ours.
        key: as `secret_key` reads it.

    Raises:
        ValueError: the policy needs a key.
    """

    def __init__(self, policy: ScrubPolicy, texts: Sequence[str], key: bytes | None) -> None:
        if policy.needs_key and not key:
            raise ValueError("the policy needs a key")
        self._policy = policy
        self._key = key or b""
        self._salt = "" if policy.consistent == "everywhere" else digest_json(list(texts))
        typed = [found for text in texts for found in PLACEHOLDER.finditer(text)]
        # So many digits are a pseudonym, or a number that we never reach.
        numbers = [int(found[1]) for found in typed if len(found[1]) < PSEUDONYM_DIGITS]
        self._offset = max(numbers, default=0)
        self._numbers: dict[str, dict[str, int]] = {}
        self._owners: dict[str, Identity | None] = {normalised(found[0]): None for found in typed}

    def replace(self, text: str, findings: Sequence[Finding]) -> str:
        """`text` with stand-ins for the findings, and to the letter the same elsewhere.

        Args:
            text: one of the conversation's texts.
            findings: left to right, none overlapping, of entities that the policy names.
        """
        parts, at = [], 0
        for finding in findings:
            value = text[finding.start : finding.end]
            parts += [text[at : finding.start], self._stand_in(finding.entity, value)]
            at = finding.end
        return "".join([*parts, text[at:]])

    def _stand_in(self, entity: str, value: str) -> str:
        match self._policy.operator_of(entity):
            case "placeholder":
                return self._placeholder(entity, value)
            case "pseudonym":
                return self._pseudonym(entity, value)
            case "surrogate":
                return self._surrogate(entity, value)

    def _placeholder(self, entity: str, value: str) -> str:
        numbers = self._numbers.setdefault(entity, {})
        number = numbers.setdefault(normalised(value), self._offset + len(numbers) + 1)
        return f"<{entity}_{number}>"

    def _pseudonym(self, entity: str, value: str) -> str:
        identity = (entity, normalised(value))
        pseudonyms = (
            f"<{entity}_{self._digest(identity, attempt).hex()[:PSEUDONYM_DIGITS]}>"
            for attempt in count()
        )
        return next(pseudonym for pseudonym in pseudonyms if self._is_free(pseudonym, identity))

    def _surrogate(self, entity: str, value: str) -> str:
        identity = (entity, normalised(value))
        invent = INVENTORS.get(entity, alike)
        for attempt in range(DRAWS):
            invented = invent(value, Random(self._digest(identity, attempt)))
            if normalised(invented) != identity[1] and self._is_free(invented, identity):
                return invented
        return self._pseudonym(entity, value)

    def _is_free(self, stand_in: str, identity: Identity) -> bool:
        """Whether nothing else has this stand-in; from now on it belongs to `identity`."""
        return self._owners.setdefault(normalised(stand_in), identity) == identity

    def _digest(self, identity: Identity, attempt: int) -> bytes:
        entity, value = identity
        # The value last: it alone may contain the separator.
        message = "\0".join((entity, self._salt, str(attempt), value))
        return hmac.digest(self._key, message.encode("utf-8", "surrogatepass"), "sha256")


def normalised(value: str) -> str:
    """The form by which values are the same."""
    return " ".join(unicodedata.normalize("NFKC", value).casefold().split())


# -- any value ------------------------------------------------------------------------------


def alike(value: str, draw: Random) -> str:
    """Digits for digits, letters for letters of the same script and case; the rest is kept."""
    return "".join(
        draw.choice(_kin(ord(sign) // 128, unicodedata.category(sign))) if sign.isalnum() else sign
        for sign in value
    )


@cache
def _kin(block: int, category: str) -> str:
    """The characters of a category in a block of 128, which is about a script."""
    block_of = (chr(code) for code in range(128 * block, 128 * block + 128))
    return "".join(sign for sign in block_of if unicodedata.category(sign) == category)


def _styled(like: str, text: str) -> str:
    """`text` in small letters or capitals if `like` is."""
    if like.islower():
        return text.lower()
    return text.upper() if like.isupper() else text


def _laid_out(value: str, signs: str) -> str:
    """`signs` in the places of the value's letters and digits."""
    left = iter(signs)
    return "".join(next(left) if sign.isalnum() else sign for sign in value)


# -- names ----------------------------------------------------------------------------------

# The first script that occurs decides: kana stands beside Han, and any beside Latin.
LOCALES = {
    "HIRAGANA": "ja_JP",
    "KATAKANA": "ja_JP",
    "CJK": "zh_CN",
    "HANGUL": "ko_KR",
    "CYRILLIC": "ru_RU",
    "GREEK": "el_GR",
    "ARABIC": "ar_SA",
    "HEBREW": "he_IL",
    "DEVANAGARI": "hi_IN",
    "BENGALI": "bn_BD",
    "TAMIL": "ta_IN",
    "THAI": "th_TH",
    "GEORGIAN": "ka_GE",
    "ARMENIAN": "hy_AM",
}
LATIN = "en_US"
# Family name first, and commonly no spaces.
EAST_ASIAN = frozenset({"ja_JP", "zh_CN", "ko_KR"})
TITLES = frozenset({"mr", "mrs", "ms", "miss", "dr", "prof", "sir"})
PARTICLES = ("al", "bin", "da", "de", "del", "della", "der", "di", "el", "la", "van", "von")
NAME = re.compile(r"[^\W_][^\s,.()\"-]*")


def _locale(value: str) -> str:
    letters = filter(str.isalpha, unicodedata.normalize("NFKC", value))
    scripts = {unicodedata.name(letter, "").partition(" ")[0] for letter in letters}
    return next((locale for script, locale in LOCALES.items() if script in scripts), LATIN)


def _fake(kind: str, locale: str, draw: Random) -> str:
    faker = _faker(locale)
    faker.seed_instance(draw.getrandbits(64))
    return " ".join(str(getattr(faker, kind)()).split())


@cache
def _faker(locale: str) -> "Faker":
    from faker import Faker  # a tenth of a second, and another fiftieth for each locale

    return Faker(locale)


def _person(value: str, draw: Random) -> str:
    locale = _locale(value)
    starts = [found.start() for found in NAME.finditer(value)]
    if locale in EAST_ASIAN and len(starts) == 1:
        return NAME.sub(_fake("name", locale, draw).replace(" ", ""), value)
    family = starts[0 if locale in EAST_ASIAN else -1] if len(starts) > 1 else None

    def name(found: re.Match[str]) -> str:
        kind = "last_name" if found.start() == family else "first_name"
        return _name_like(found[0], kind, locale, draw)

    return NAME.sub(name, value)


def _name_like(word: str, kind: str, locale: str, draw: Random) -> str:
    if word.casefold() in TITLES:
        return word
    if word in PARTICLES:
        return draw.choice(PARTICLES)
    if len(word) == 1 and word.isupper():
        return alike(word, draw)
    return _styled(word, _fake(kind, locale, draw).split()[-1])


def _organization(value: str, draw: Random) -> str:
    return _styled(value, _fake("company", _locale(value), draw))


# -- places ---------------------------------------------------------------------------------

PARTS_OF_ADDRESS = re.compile(r"(\s*[,;\r\n]\s*)")
LONG_WORD = re.compile(r"[^\W\d_]{4}")
STREET = re.compile(
    r"(?:\s(?:street|st|avenue|ave|road|rd|lane|ln|drive|dr|blvd|boulevard|court|way)\.?"
    r"|stra(?:ß|ss)e|straat|gatan)(?!\w)|^(?:rue|calle|via|avenida|ul\.)\s",
    re.IGNORECASE,
)
TOWN_POSTCODE = re.compile(r"\d{5}")
# A word with a digit in it, or a run of words without.
NUMBER_OR_WORDS = re.compile(r"\S*\d\S*|[^\s\d]+(?!\S)(?:\s+[^\s\d]+(?!\S))*")


def _location(value: str, draw: Random) -> str:
    parts = PARTS_OF_ADDRESS.split(value)
    parts[::2] = [_place(part, draw) for part in parts[::2]]
    return "".join(parts)


def _place(part: str, draw: Random) -> str:
    """For a part of an address, a line of it or what stands between commas."""
    locale = _locale(part)
    if not any(sign.isalnum() for sign in part):
        return part
    if any(sign.isdigit() for sign in part):
        if locale in EAST_ASIAN:
            return _fake("address", locale, draw)
        return _numbered_place(part, locale, draw) if LONG_WORD.search(part) else alike(part, draw)
    if len(part) == 2 and part.isascii() and part.isupper():
        return _fake("state_abbr", LATIN, draw)
    kind = "street_name" if STREET.search(part) else "city"
    return _styled(part, _fake(kind, locale, draw))


def _numbered_place(part: str, locale: str, draw: Random) -> str:
    """Numbers keep their format; the words beside them are a street, or a town's name."""
    is_town = TOWN_POSTCODE.search(part) and not STREET.search(part)

    def new(found: re.Match[str]) -> str:
        if any(sign.isdigit() for sign in found[0]):
            return alike(found[0], draw)
        return _styled(found[0], _fake("city" if is_town else "street_name", locale, draw))

    return NUMBER_OR_WORDS.sub(new, part)


# -- dates ----------------------------------------------------------------------------------

# Each also with numbers that are not padded to two digits.
DATES = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%m%d%Y", "%d%m%Y", "%Y", "%m/%Y", "%B %Y",
    "%b %Y", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y", "%d.%m.%Y", "%m/%d/%y", "%d/%m/%y",
    "%m-%d-%y", "%d-%m-%y", "%d.%m.%y", "%d-%b-%Y", "%d-%b-%y", "%B %d, %Y", "%b %d, %Y",
    "%b. %d, %Y", "%B %d %Y", "%b %d %Y", "%d %B %Y", "%d %b %Y", "%d %b %y", "%d. %B %Y",
    "%d %B, %Y", "%A, %B %d, %Y", "%A, %d %B %Y", "%B %d", "%b %d", "%d %B", "%d %b", "%B", "%b",
    "%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M%p", "%I %p", "%I%p",
)  # fmt: skip
TIMES = (
    "", " %H:%M", " %H:%M:%S", ", %H:%M", " %I:%M %p", ", %I:%M %p", " at %H:%M",
    "T%H:%M", "T%H:%M:%S", "T%H:%M:%SZ",
)  # fmt: skip
MINUTES = 2 * 365 * 24 * 60
WORDS_OF_DATES = frozenset({"of", "the", "at", "on", "am", "pm"})
DATE_WORD = re.compile(
    r"(?P<ordinal>\b\d\d?(?:st|nd|rd|th)\b)|(?P<year>\b(?:19|20)\d\d\b)|[^\W\d_]+|\d+",
    re.IGNORECASE,
)


def _date(value: str, draw: Random) -> str:
    """At most two years off in the same format; if that is not known, with other numbers."""
    shift = timedelta(minutes=draw.randint(-MINUTES, MINUTES))
    for form in _date_formats().get(_shape(value), ()):
        try:
            moment = datetime.strptime(value, form)
            for written in (form, re.sub("%([dmI])", r"%-\1", form)):
                if moment.strftime(written).casefold() == value.casefold():
                    return _styled(value, (moment + shift).strftime(written))
        except (ValueError, OverflowError):
            continue  # not this format, or at the end of the calendar
    return DATE_WORD.sub(lambda found: _date_word_like(found, draw), value)


@cache
def _date_formats() -> dict[str, list[str]]:
    """By shape, as `strptime` compiles a pattern for each format it is called with."""
    formats: dict[str, list[str]] = {}
    for form in (date + time for time in TIMES for date in DATES):
        formats.setdefault(_shape(form), []).append(form)
    return formats


def _shape(text: str) -> str:
    return re.sub(r"(?:%?[^\W_])+", "x", text)


def _date_word_like(found: re.Match[str], draw: Random) -> str:
    word = found[0]
    if found["ordinal"]:
        return f"{draw.randint(4, 20)}th"
    if found["year"]:
        return str(int(word) + draw.randint(-2, 2))
    if word.casefold() in WORDS_OF_DATES:
        return word
    for names in (calendar.month_name, calendar.month_abbr, calendar.day_name, calendar.day_abbr):
        known = [name for name in names if name]
        if word.capitalize() in known:
            return _styled(word, draw.choice(known))
    return alike(word, draw)


# -- numbers and addresses of machines ------------------------------------------------------

CARD = re.compile(r"[0-9](?:\W*[0-9])+")
IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{8,30}", re.ASCII | re.IGNORECASE)
# RFC 5737 and RFC 3849: for documentation, nobody's.
NETWORKS_V4 = ("192.0.2.", "198.51.100.", "203.0.113.")
NETWORK_V6 = int(ipaddress.IPv6Address("2001:db8::"))
MAIL_HOSTS = ("example.com", "example.org", "example.net")


def _card(value: str, draw: Random) -> str:
    """With the first digit, which is the network's, and a check digit that is right."""
    if not CARD.fullmatch(value):
        return alike(value, draw)
    digits = re.sub(r"\D", "", value)
    digits = digits[0] + alike(digits[1:-1], draw)
    return _laid_out(value, digits + luhn_digit(digits))


def _iban(value: str, draw: Random) -> str:
    """With the country and check digits that are right (ISO 13616)."""
    signs = "".join(filter(str.isalnum, value))
    if not IBAN.fullmatch(signs):
        return alike(value, draw)
    country, account = signs[:2], alike(signs[4:], draw)
    number = "".join(str(int(sign, 36)) for sign in f"{account}{country}00")
    return _laid_out(value, f"{country}{98 - int(number) % 97:02}{account}")


def _ip(value: str, draw: Random) -> str:
    try:
        version = ipaddress.ip_interface(value).version
    except ValueError:
        return alike(value, draw)
    if version == 4:
        address = f"{draw.choice(NETWORKS_V4)}{draw.randint(1, 254)}"
    else:
        address = str(ipaddress.IPv6Address(NETWORK_V6 + draw.getrandbits(96)))
    _, slash, prefix = value.partition("/")
    return _styled(value, address) + slash + prefix


def _email(value: str, draw: Random) -> str:
    return _styled(value, f"{_fake('user_name', LATIN, draw)}@{draw.choice(MAIL_HOSTS)}")


def _url(value: str, draw: Random) -> str:
    path = "".join(draw.choices(string.ascii_lowercase, k=12))
    return _styled(value, f"https://example.com/{path}")


# What is not named here is replaced character by character.
INVENTORS: dict[str, Inventor] = {
    "PERSON": _person,
    "LOCATION": _location,
    "ORGANIZATION": _organization,
    "EMAIL_ADDRESS": _email,
    "URL": _url,
    "IP_ADDRESS": _ip,
    "CREDIT_CARD": _card,
    "IBAN_CODE": _iban,
    "DATE_OF_BIRTH": _date,
    "DATE_TIME": _date,
}
