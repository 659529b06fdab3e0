"""Cards, bank accounts and wallets."""

import re

from presidio_analyzer import Pattern

from data_contracts import checksums
from tasks.scrub.recognizers.base import THREE_DIGITS, ContextPatternRecognizer

# Characters of an IBAN, by country (SWIFT IBAN registry, release 99).
IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}


class CardNumberRecognizer(ContextPatternRecognizer):
    """Payment cards of 12 to 19 digits, 2-series Mastercard included, that pass Luhn's check.

    Groups may stand apart by any mark, and the halves of a card by a few words.
    """

    ENTITY = "CREDIT_CARD"
    PATTERNS = (
        Pattern(
            "card",
            r"\d(?<!\d\d)(?<!\d\.\d)(?: ?[-\u2010-\u2015\u2212._/\u00b7]? ?\d){11,18}(?!\d)",
            0.3,
        ),
        Pattern(
            "halves",
            r"\d(?<!\d\d)\d{3}[ -]?\d{4}[,;]?(?:\s[^\W\d_]{1,10}[,:]?){1,8}\s\d{4}[ -]?\d{4}(?!\d)",
            0.3,
        ),
    )
    gate = THREE_DIGITS

    def weigh(self, value: str, score: float) -> float:  # noqa: ARG002
        return 1.0 if checksums.luhn(digits_of(value)) else 0


def digits_of(value: str) -> str:
    """The digits of a value, of any script, as 0 to 9."""
    return "".join(str(int(character)) for character in value if character.isdecimal())


class IbanRecognizer(ContextPatternRecognizer):
    """IBANs in groups or not, of the length of their country; surely where the check digits fit."""

    ENTITY = "IBAN_CODE"
    PATTERNS = (
        Pattern("IBAN", r"[A-Z](?<![A-Z0-9][A-Z])[A-Z][0-9]{2}(?:[ .-]?[A-Z0-9]){11,29}", 0.2),
    )
    CONTEXT = ("iban", "bank", "account", "transfer", "konto", "cuenta", "compte")
    FLAGS = re.IGNORECASE | re.ASCII

    def span(self, match: re.Match[str]) -> tuple[int, int]:
        """As many letters and digits as its country's IBANs have; nothing where it has fewer."""
        start, left = match.start(), IBAN_LENGTHS.get(match[0][:2].upper(), 0)
        for at, character in enumerate(match[0], start + 1):
            left -= character.isalnum()
            if left == 0 and not match.string[at : at + 1].isalnum():
                return start, at
        return start, start

    def weigh(self, value: str, score: float) -> float:
        if not value:
            return 0
        if checksums.iban(re.sub(r"[ .-]", "", value)):
            return 1.0
        digits = sum(character.isdigit() for character in value)
        return score if value.isupper() and digits >= 10 else 0


class WalletRecognizer(ContextPatternRecognizer):
    """Bitcoin's addresses, and those made like them, by their checksums; Ethereum's by form."""

    ENTITY = "CRYPTO"
    PATTERNS = (
        Pattern("base58", r"[1-9A-HJ-NP-Za-km-z](?<!\w\w)[1-9A-HJ-NP-Za-km-z]{25,34}(?!\w)", 1.0),
        Pattern("bech32", r"[blt](?<!\w\w)(?:c|b|tc)1[02-9ac-hj-np-z]{38,62}(?!\w)", 1.0),
        Pattern("BECH32", r"[BLT](?<!\w\w)(?:C|B|TC)1[02-9AC-HJ-NP-Z]{38,62}(?!\w)", 1.0),
        Pattern("ethereum", r"0(?<!\w0)x[0-9a-fA-F]{40}(?!\w)", 0.9),
    )
    FLAGS = 0

    def weigh(self, value: str, score: float) -> float:
        if value.startswith("0x"):
            return score
        lower = value.lower()
        if lower.startswith(("bc1", "tb1", "ltc1")) and len(value) > 40:
            return score if checksums.bech32(value) else 0
        return score if checksums.base58check(value) else 0
