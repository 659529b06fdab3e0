"""Numbers that somebody's things and papers go by: devices, accounts, policies, cases."""

import re

from presidio_analyzer import Pattern

from data_contracts import checksums
from tasks.scrub.recognizers.base import DIGIT, THREE_DIGITS, ContextPatternRecognizer, names

_CODE = r"(?P<datum>[A-Z0-9](?:[-/. ]?[A-Z0-9]){3,23})(?![A-Z0-9])"
_NUMBER = (
    r"(?:[ _-]?(?:number|numbers|numero|número|nummer|num|nr|no|id|code|ref(?:erence)?)\b\.?|#)"
)


class ImeiRecognizer(ContextPatternRecognizer):
    """IMEIs: 15 digits with Luhn's check digit (3GPP TS 23.003, annex B), near their name."""

    ENTITY = "DEVICE_ID"
    PATTERNS = (Pattern("IMEI", r"\d(?<!\d\d)\d(?:[ -]?\d){12}[ -]?\d(?!\d)", 0.3),)
    CONTEXT = ("imei", "meid", "device", "device id", "handset")
    CONTEXT_SCORE = 1.0
    gate = THREE_DIGITS

    def weigh(self, value: str, score: float) -> float:
        return score if checksums.luhn(re.sub(r"\D", "", value)) else 0


class VinRecognizer(ContextPatternRecognizer):
    """Vehicle identification numbers: with the check digit, or near their name."""

    ENTITY = "DEVICE_ID"
    PATTERNS = (Pattern("VIN", r"[A-HJ-NPR-Z0-9](?<![\w-].)[A-HJ-NPR-Z0-9]{16}(?![\w-])", 0.2),)
    CONTEXT = ("vin", "chassis", "vehicle", "vehicle identification", "car", "fahrgestellnummer")
    FLAGS = re.IGNORECASE | re.ASCII
    gate = DIGIT

    def weigh(self, value: str, score: float) -> float:
        if value.isdigit() or value.isalpha():
            return 0
        return 0.6 if value.isupper() and checksums.vin(value) else score


class SerialNumberRecognizer(ContextPatternRecognizer):
    """Serial numbers and other names of devices, after what they are called."""

    ENTITY = "DEVICE_ID"
    PATTERNS = (
        Pattern(
            "serial number",
            names(
                r"serial(?:[ _-]?(?:number|no\b\.?|num|nr|code|#))?",
                "s/n",
                "sn",
                "imei",
                "meid",
                "imsi",
                "iccid",
                "udid",
                "idfa",
                "device[ _-]?(?:id|serial)",
                "asset[ _-]?tag",
                "android[ _-]?id",
            )
            + r"(?![A-Z])(?: is|:|=|#)?:?\s{0,2}#?[\"']?"
            + r"(?P<datum>[A-Z0-9](?:[-/]?[A-Z0-9]){4,40})(?!\w)",
            0.8,
        ),
    )
    gate = DIGIT

    def weigh(self, value: str, score: float) -> float:
        return score if sum(character.isdigit() for character in value) >= 2 else 0


class AccountNumberRecognizer(ContextPatternRecognizer):
    """Numbers of customers, accounts, policies, cases and papers, after what they are called."""

    ENTITY = "ACCOUNT_ID"
    _WHAT = names(
        "account", "acct", "acc", "a/c", "customer", "client", "member(?:ship)?", "policy",
        "insurance", "contract", "case", "claim", "ticket", "incident", "employee", "staff",
        "personnel", "student", "matriculation", "patient", "medical record", "mrn", "health",
        "order", "ref(?:erence)?", "booking", "reservation", "confirmation", "pnr", "invoice",
        "receipt", "transaction", "tracking", "shipment", "parcel", "loyalty", "rewards?",
        "frequent flyer", "subscriber", "subscription", "user", "badge", "registration",
        "licen[cs]e plate", "number plate", "plate", "vat", "tax", "ein", "national", "identity",
        "routing", "sort", "swift", "passport", "licen[cs]e", "visa", "permit", "social security",
        "file", "docket", "konto", "kunden", "vertrags", "cuenta", "cliente", "compte", "dossier",
    )  # fmt: skip
    PATTERNS = (
        Pattern(
            "number",
            # Called a number, or five digits and more.
            rf"{_WHAT}(?:{_NUMBER}(?: (?:is|was)\b|[:=#])?:?\s{{0,2}}"
            r"|(?: is\s{1,2}|\s{0,2}[:=]\s{0,2}|\s{1,2})"
            r"(?=[#\"'`]{0,2}[A-Z]{0,5}[-/]?\d(?:[- ]?\d){4}))"
            rf"#?[\"'`]?{_CODE}",
            0.7,
        ),
    )
    gate = re.compile(r"\d[ -]?\d[ -]?\d")

    def span(self, match: re.Match[str]) -> tuple[int, int]:
        """Up to the last of its parts that has a digit: '12-345 and more' ends at 5."""
        start, end = match.span("datum")
        value = match.string[start:end]
        while " " in value and not re.search(r"\d[A-Z0-9]*$", value, re.IGNORECASE):
            value = value.rpartition(" ")[0]
        return start, start + len(value)

    def weigh(self, value: str, score: float) -> float:
        """Three digits and more, and no word among them."""
        digits = sum(character.isdigit() for character in value)
        if digits < 3 or re.match(r"[^\W\d_]+ ", value):
            return 0
        return score


class PlateRecognizer(ContextPatternRecognizer):
    """Number plates of vehicles, after what they are called."""

    ENTITY = "ID_NUMBER"
    PATTERNS = (
        Pattern(
            "plate",
            names(
                "number plate",
                "licen[cs]e plate",
                "registration plate",
                "plate",
                "vehicle registration",
                "kennzeichen",
                "nummernschild",
                "plaque(?: d['\u2019]immatriculation)?",
                "immatriculation",
                "matrícula",
                "targa",
                "kenteken",
                "placa",
            )
            + r"s?(?: (?:number|no|is|ist|est|es|è|é|lautet)\b\.?){0,2}\s?[:=#]?\s?[\"'`]?"
            + r"(?P<datum>[A-Z0-9](?=[A-Z0-9 -]{0,9}\d)[A-Z0-9]{0,3}(?:[ -]?[A-Z0-9]{1,4}){1,3})"
            + r"(?!\w)",
            0.7,
        ),
    )
    gate = DIGIT

    def weigh(self, value: str, score: float) -> float:
        """Capitals and digits, as plates have them."""
        return score if value.upper() == value and re.search(r"[A-Z]", value) else 0
