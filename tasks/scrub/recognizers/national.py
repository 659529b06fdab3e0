"""Numbers that a state gives to people."""

import re

from presidio_analyzer import Pattern

from data_contracts import checksums
from tasks.scrub.recognizers.base import THREE_DIGITS, ContextPatternRecognizer


class SsnRecognizer(ContextPatternRecognizer):
    """US social security numbers, of areas, groups and serials that are given out.

    https://www.ssa.gov/employer/randomization.html: no 000, 666, 9xx; no 00; no 0000.
    """

    ENTITY = "US_SSN"
    COUNTRY_CODE = "us"
    PATTERNS = (
        Pattern("grouped", r"\d(?<![\d-]\d)\d\d(?:-\d\d-| \d\d |\.\d\d\.)\d{4}(?![\d-])", 0.5),
        Pattern("plain", r"\d(?<![\w-]\d)\d\d-?\d\d-?\d{4}(?![\w-])", 0.1),
    )
    CONTEXT = ("ssn", "ssns", "social", "social security", "socialsecurity", "ss#")
    gate = THREE_DIGITS

    def weigh(self, value: str, score: float) -> float:
        digits = re.sub(r"\D", "", value)
        given = digits[:3] not in ("000", "666") and digits[3:5] != "00" and digits[5:] != "0000"
        return score if given and digits[0] != "9" else 0


class ItinRecognizer(ContextPatternRecognizer):
    """US taxpayer numbers of persons: 9xx-(50-65, 70-88, 90-92, 94-99)-xxxx (IRS Pub. 1915)."""

    ENTITY = "US_ITIN"
    COUNTRY_CODE = "us"
    _GROUP = r"(?:5\d|6[0-5]|7\d|8[0-8]|9[0-24-9])"
    PATTERNS = (
        Pattern("grouped", rf"9(?<![\w-]9)\d\d(?:-{_GROUP}-| {_GROUP} )\d{{4}}(?![\w-])", 0.55),
        Pattern("plain", rf"9(?<![\w-]9)\d\d[- ]?{_GROUP}[- ]?\d{{4}}(?![\w-])", 0.1),
    )
    CONTEXT = ("itin", "taxpayer", "tax", "tin", "tax id", "individual taxpayer")
    gate = THREE_DIGITS


class UsPassportRecognizer(ContextPatternRecognizer):
    """Numbers of US passports: nine digits, or a letter and eight, near the word."""

    ENTITY = "US_PASSPORT"
    COUNTRY_CODE = "us"
    PATTERNS = (Pattern("passport", r"[A-Z0-9](?<![\w-].)\d{8}(?![\w-])", 0.1),)
    CONTEXT = ("passport", "passport#", "passport no", "travel document")
    gate = THREE_DIGITS


class UsDriverLicenseRecognizer(ContextPatternRecognizer):
    """Numbers of US driver licences, of the forms of any state, near what they are called.

    https://ntsi.com/drivers-license-format/
    """

    ENTITY = "US_DRIVER_LICENSE"
    COUNTRY_CODE = "us"
    PATTERNS = (
        Pattern(
            "licence",
            r"[A-Z0-9](?<![\w-].)(?:[A-Z]?\d{5,14}|\d{2}[A-Z]{3}\d{5,6}|\d{2}[A-Z]{2}\d{4}"
            r"|\d{6,8}[A-Z]{1,2}|\d{3}-\d{3}-\d{2,3}-\d{3}(?:-\d)?|\d{3}-\d{4}-\d{4}"
            r"|\d{2}-\d{3}-\d{3,4})(?![\w-])",
            0.1,
        ),
    )
    CONTEXT = (
        "driver license", "drivers license", "driver's license", "dl", "dln",
        "driver licence", "drivers licence", "driver's licence", "dl#",
        "driving license", "driving licence", "license number", "licence number", "license no",
        "licence no", "license #", "permit number",
    )  # fmt: skip
    gate = THREE_DIGITS


class NhsRecognizer(ContextPatternRecognizer):
    """NHS numbers with their check digit, near the word: one telephone number in eleven has it."""

    ENTITY = "UK_NHS"
    COUNTRY_CODE = "uk"
    PATTERNS = (Pattern("NHS", r"\d(?<![\w-]\d)\d\d[ -]?\d{3}[ -]?\d{4}(?![\w-])", 0.3),)
    CONTEXT = ("nhs", "national health", "health service", "health number", "patient", "gp")
    gate = THREE_DIGITS

    def weigh(self, value: str, score: float) -> float:
        return score if checksums.nhs(re.sub(r"\D", "", value)) else 0
