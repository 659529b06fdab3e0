"""Telephone numbers."""

import re

from presidio_analyzer import Pattern

from tasks.scrub.recognizers.base import ContextPatternRecognizer

_BETWEEN = r"[ ()./\xa0\u2010-\u2015\u2212-]{0,3}"
_EXTENSION = re.compile(r" ?(?:x|ext\.?|extension) ?\d{1,6}$", re.IGNORECASE)
_YEAR = r"(?:19|20)\d\d"
# What stands among and beside telephone numbers, and is none: dates.
_DATE = re.compile(
    rf"(?<!\d){_YEAR}([-./])[01]?\d\1[0-3]?\d(?!\d)|(?<!\d)[0-3]?\d([-./])[0-3]?\d\2{_YEAR}(?!\d)"
)
# What is never one: ranges of years, round thousands.
_OTHER = re.compile(rf"{_YEAR} ?[-\u2013/] ?{_YEAR}|[1-9]\d{{0,2}}(?:[ .]000)+")
# What seldom is one: plain numbers of orders and the like, short dates, hours, IP addresses,
# decimals.
_SELDOM = re.compile(
    r"[1-9]\d{6,7}|[0-3]?\d([.-])[0-3]?\d\1\d\d|[0-2]?\d[.][0-5]\d ?[-\u2013] ?[0-2]?\d[.][0-5]\d"
    r"|(?:1?\d\d?|2[0-5]\d)(?:\.(?:1?\d\d?|2[0-5]\d)){3}|20[0-3]\d[01]\d[0-3]\d(?:\d{4}|\d{6})?"
    r"|\(?[1-9]?\d\.\d{5,}"
)


class AnyPhoneRecognizer(ContextPatternRecognizer):
    """Anything written like a telephone number: 7 to 15 digits, grouped, with an extension,
    or six digits in three groups.

    Broad on purpose: a number that is not a telephone number costs the model little,
    a telephone number that stays costs a person their privacy. Of 31,979 numbers that Faker
    invents for 110 locales it leaves 109, all of three to six digits, and without a word like
    "call" near by another 317, plain ones of seven or eight. The phonenumbers library finds 20
    of the 109 and takes milliseconds a text, so it is not used.
    """

    ENTITY = "PHONE_NUMBER"
    PATTERNS = (
        Pattern(
            "phone",
            r"[+(\d](?<!\d\d)(?<![$€£¥]\d)(?<!\d\.\d)(?<![0x][xA-Fa-f]\d)(?<!\d[A-Fa-f]\d)"
            rf"\+?(?:{_BETWEEN}\d){{6,15}}"
            r"(?: ?(?:x|ext\.?|extension) ?\d{1,6})?(?!\d)",
            0.45,
        ),
        Pattern("short phone", r"\d(?<!\d\d)(?<!\d[ .-]\d)\d(?:[ .-]\d\d){2}(?![ .:-]?\d)", 0.45),
    )
    CONTEXT = (
        "phone", "telephone", "tel", "tele", "call", "ring", "rang", "dial", "text", "txt", "sms",
        "mobile", "cell", "cellphone", "landline", "fax", "whatsapp", "signal", "telegram", "reach",
        "contact", "my number", "number is", "telefon", "telefono", "teléfono", "téléphone",
        "handy", "celular", "móvil", "hotline", "voicemail",
    )  # fmt: skip

    def weigh(self, value: str, score: float) -> float:
        rest = _DATE.sub("", _EXTENSION.sub("", value))
        if not 6 <= sum(map(str.isdigit, rest)) <= 15 or _OTHER.fullmatch(value):
            return 0
        return 0.3 if _SELDOM.fullmatch(value) else score
