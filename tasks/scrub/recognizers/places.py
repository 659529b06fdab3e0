"""Postcodes."""

import re

from presidio_analyzer import Pattern

from tasks.scrub.recognizers.base import DIGIT, ContextPatternRecognizer

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
