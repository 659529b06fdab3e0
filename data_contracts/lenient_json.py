"""JSON as strangers write it."""

import json
from typing import Any

# A longer whole number stands for no quantity, and Python refuses to read one of 4,301 digits.
LONGEST_NUMBER = 40


def parse_json(text: str | bytes) -> Any:
    """`json.loads`, but a whole number of too many digits is a float, maybe infinity.

    Raises:
        ValueError: not JSON, or not UTF-8.
        RecursionError: nested too deep.
    """
    return json.loads(text, parse_int=_number)


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= LONGEST_NUMBER else float(digits)
