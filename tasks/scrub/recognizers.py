"""What stock Presidio misses and a demo must not: each recogniser one small class."""

import re

from presidio_analyzer import Pattern, PatternRecognizer


class CardNumberRecognizer(PatternRecognizer):  # type: ignore[misc]
    """Payment cards of 12 to 19 digits, 2-series Mastercard included, that pass Luhn's check."""

    def __init__(self) -> None:
        super().__init__(
            supported_entity="CREDIT_CARD",
            name="CardNumberRecognizer",
            patterns=[Pattern("card", r"(?<!\d)\d(?:[ -]?\d){11,18}(?!\d)", 0.3)],
            context=["card", "credit", "debit", "visa", "mastercard", "amex"],
        )

    def validate_result(self, pattern_text: str) -> bool:
        return luhn(re.sub(r"\D", "", pattern_text))


class AnyPhoneRecognizer(PatternRecognizer):  # type: ignore[misc]
    """Anything written like a telephone number: 7 to 15 digits, grouped, with an extension,
    or six digits in three groups.

    Broad on purpose: a number that is not a telephone number costs the model little,
    a telephone number that stays costs a person their privacy.
    """

    def __init__(self) -> None:
        super().__init__(
            supported_entity="PHONE_NUMBER",
            name="AnyPhoneRecognizer",
            patterns=[
                Pattern(
                    "phone",
                    r"(?<!\d)(?:\+|00)?\(?\d(?:[ ()./-]{0,3}\d){6,14}"
                    r"(?: ?(?:x|ext\.?|extension) ?\d{1,6})?(?!\d)",
                    0.45,
                ),
                Pattern("short phone", r"(?<!\d)\d\d(?:[ .-]\d\d){2}(?!\d)", 0.45),
            ],
            context=["phone", "call", "number", "mobile", "cell", "fax", "tel"],
        )


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1 check digit."""
    total = sum(int(digit) for digit in digits[-1::-2])
    total += sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return total % 10 == 0
