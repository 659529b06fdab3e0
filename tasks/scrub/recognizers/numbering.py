"""Whether a number could be a telephone number, by the numbering plans of the world.

The plans are those of the phonenumbers library (Google's libphonenumber): how many digits a
region's numbers have, how they begin, how they are grouped.
"""

import re
from functools import lru_cache

import phonenumbers
from phonenumbers import NumberParseException, PhoneMetadata, PhoneNumberFormat

# Regions where the seven languages are spoken. Their numbers are believed in national form.
REGIONS = (
    "US", "CA", "GB", "IE", "AU", "NZ", "IN", "ZA", "DE", "AT", "CH", "FR", "BE", "ES", "MX",
    "AR", "CO", "CL", "PE", "IT", "PT", "BR", "NL",
)  # fmt: skip
# Regions whose numbers are also believed where they begin with the trunk prefix 0.
TRUNK_REGIONS = (
    *REGIONS, "JP", "KR", "CN", "TW", "TH", "VN", "ID", "PH", "MY", "PK", "BD", "LK", "NP", "TR",
    "IL", "EG", "MA", "NG", "KE", "GH", "SE", "FI", "SK", "SI", "HR", "RS", "BG", "RO", "UA", "AL",
    "BA", "IR", "SA", "AE", "JO", "GE", "AM", "AZ", "UZ", "MD", "ME", "MK", "LY",
    "DZ", "TZ", "UG", "ZM",
    "ZW", "NA", "MM", "KH", "LA", "MN", "IQ", "LB", "SY", "AF", "CU", "EC", "PY", "UY", "VE",
)  # fmt: skip
# Regions whose trunk prefix is left out where a number is written with its area's code.
OPTIONAL_TRUNK = frozenset({"BR", "IN", "AR", "CO"})
EXTENSION = re.compile(r" ?(?:x|ext\.?|extension|Durchwahl|poste|interno) ?\d{1,6}$", re.IGNORECASE)


@lru_cache(maxsize=8192)
def is_international(value: str) -> bool:
    """Whether a number with its country's code, after + or 00, has as many digits as that country's
    numbers."""
    digits = EXTENSION.sub("", value)
    digits = re.sub(r"^\(?00", "+", digits.strip())
    number = _parsed(digits.replace("(0)", "").replace("(", "").replace(")", ""), None)
    return number is not None and phonenumbers.is_possible_number(number)


def is_in_brackets(value: str) -> bool:
    """Whether a number begins with its country's code in brackets: (351) 919 825 979."""
    if not re.match(r"\([1-9]\d{0,2}\)\s?\d", value):
        return False
    number = _parsed("+" + re.sub(r"\D", "", value), None)
    return number is not None and phonenumbers.is_valid_number(number)


@lru_cache(maxsize=8192)
def is_national(value: str, *, anywhere: bool = False) -> bool:
    """Whether a number is one that a region gives out, as dialled inside it.

    A region whose numbers are dialled with a trunk prefix counts where the prefix is there.

    Args:
        value: digits, grouped or not.
        anywhere: also try the regions believed by their trunk prefix alone.
    """
    body = EXTENSION.sub("", value)
    digits = re.sub(r"\D", "", body)
    regions = TRUNK_REGIONS if anywhere or digits.startswith("0") else REGIONS
    return any(_is_of(digits, region) for region in regions)


@lru_cache(maxsize=8192)
def is_grouped_as_national(value: str) -> bool:
    """Whether the groups of digits are those in which a region writes this number.

    Longer groups of that region may be split or joined where the first stays whole.
    """
    groups = re.findall(r"\d+", EXTENSION.sub("", value))
    if len(groups) < 2:
        return False
    if groups[0] == "1" and len(groups) == 4:  # North America's trunk prefix
        groups = groups[1:]
    digits = "".join(groups)
    return any(
        groups == written
        for region in REGIONS
        if _is_of(digits, region)
        for written in _written(digits, region)
    )


def _is_of(digits: str, region: str) -> bool:
    metadata = PhoneMetadata.metadata_for_region(region, None)
    if metadata is None or metadata.general_desc is None:
        return False
    prefix = metadata.national_prefix or ""
    has_trunk = prefix == "0" and region not in OPTIONAL_TRUNK
    if has_trunk and not digits.startswith("0"):
        return False
    lengths = metadata.general_desc.possible_length
    if not {len(digits), len(digits) - len(prefix)} & set(lengths):
        return False
    number = _parsed(digits, region)
    return number is not None and phonenumbers.is_valid_number_for_region(number, region)


def _written(digits: str, region: str) -> list[list[str]]:
    number = _parsed(digits, region)
    if number is None:
        return []
    forms = [phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)]
    forms.append(
        phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL).partition(" ")[2]
    )
    return [re.findall(r"\d+", form) for form in forms]


def _parsed(digits: str, region: str | None) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(digits, region)
    except NumberParseException:
        return None
