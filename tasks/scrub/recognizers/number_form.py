"""Whether a number that was found is a card, an IBAN, or a number that something goes by."""

import re

from data_contracts import checksums
from tasks.scrub.recognizers import announcing
from tasks.scrub.recognizers.checked_ids import is_checked
from tasks.scrub.recognizers.money import IBAN_LENGTHS, digits_of
from tasks.scrub.recognizers.surroundings import (
    holds_operator,
    is_among_numbers,
    is_amount,
    is_code,
    is_in_formula,
    is_timestamp,
    numbers_rows,
)

_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_HASH = re.compile(r"(?=\d*[a-f])(?=[a-f]*\d)[0-9a-f]{7,}|(?=\d*[A-F])(?=[A-F]*\d)[0-9A-F]{16,}")
_VERSION = re.compile(r"v?\d+(?:\.\d+){1,4}(?:[-+.]?(?:rc|alpha|beta|dev|post|a|b)\.?\d*)?", re.I)
_DATE = re.compile(
    r"(?:19|20)\d\d[-./][01]?\d[-./][0-3]?\d(?:[T ]\d\d.*)?|[0-3]?\d[-./][0-3]?\d[-./](?:19|20)\d\d"
    r"|\d\d?:\d\d(?::\d\d)?.*|(?:19|20)\d\d\s?[-\u2013/]\s?(?:19|20)?\d\d"
)
_PRODUCT = re.compile(
    r"(?:ISO|IEC|IEEE|DIN|EN|RFC|CVE|PEP|RTX|GTX|RX|GPT|BERT|SHA|MD|UTF|ASCII|CP|HTTP|HTTPS|TLS|SSL|TCP|UDP"
    r"|IPv|USB|HDMI|PCIe|DDR|SATA|NVMe|WD|LTE|iPhone|iPad|Galaxy|Pixel|Xbox|PS|Windows|Win|Office"
    r"|Python|Java|C|Node|Ubuntu|Debian|macOS|iOS|Android|Boeing|Airbus|A|B|F|BMW|Audi|ERR|E|ORA|KB|MS|LNK"
    r"|TS|PY|S|W|N|X|Core|Ryzen|i|M|H|V|T|L|P|G|Q|K|R|Z|Mark|Mk|Type|Model|Series|Chapter|Section|Figure"
    r"|Table|Page|Step|Article|Part|Volume|Room|Line|Port|Code|Level|Version|Unit|Exercise|Question"
    r"|Problem|Example|Error|Status|Build|Route|Highway)[-_ ]?\d{1,5}[A-Za-z]{0,5}\+?"
)
_STANDARD_BEFORE = re.compile(
    r"(?:\b(?:ISO|IEC|IEEE|DIN|RFC|CVE|PEP|RTX|GTX|GPT|port|Port|HTTP|http|status|error|Error|errno|exit"
    r"|code|line|Line|page|version|Version|v|chapter|section|Section|step|Step|build|Build|commit|Commit"
    r"|revision|sha|hash|bug|PR|year|size|offset|index|row|column|model|Model|issue))[\s:#=-]{1,3}\Z"
)
_WORDS = re.compile(r"(?<![^\W_])[a-z]{3,}(?![^\W_])")
# Leading digits and lengths of the brands of payment cards.
_BRANDS = re.compile(
    r"4(?:\d{15}|\d{12}|\d{18})|5[0-9]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[689]\d)\d{11}(?:\d{2,5})?|35\d{14}|(?:2131|1800)\d{11}|6(?:011|4[4-9]\d|5\d\d|2\d\d)\d{12}(?:\d{3})?"
    r"|(?:5018|5020|5038|5[6-9]\d\d|6\d{3})\d{8,15}|220[0-4]\d{12}"
)
LEAST_CHARACTERS = 5


def is_identifier_number(text: str, start: int, end: int, entity: str, least_digits: int) -> bool:
    """Whether a value may be a number that a person or thing goes by: long enough or announced,
    and neither in code nor a hash, UUID, version, date, product or standard."""
    value = text[start:end]
    digits = sum(map(str.isdigit, value))
    if not digits or _DATE.fullmatch(value) or _UUID.fullmatch(value):
        return False
    if numbers_rows(text, start) or holds_operator(value):
        return False
    if is_checked(value, announced=False):
        return True
    if _is_cut_from_token(text, start, end) or is_timestamp(text, end):
        return False
    if any(announcing.announces(kind, text, start, end) for kind in ("ID_NUMBER", entity)) or (
        entity == "ID_NUMBER" and announcing.announces("ACCOUNT_ID", text, start, end)
    ):
        return digits >= 2 and not is_amount(text, start, end)
    characters = sum(map(str.isalnum, value))
    if characters < LEAST_CHARACTERS or digits < least_digits:
        return False
    if _VERSION.fullmatch(value) or _HASH.fullmatch(value) or _PRODUCT.fullmatch(value):
        return False
    if _STANDARD_BEFORE.search(text[max(start - 16, 0) : start]) or _WORDS.search(value):
        return False
    if "_" in value or is_code(text, start, end):
        return False
    if re.fullmatch(r"[-+]?[\d.,\s]+", value):
        return _is_believable_number(text, start, end)
    return not is_in_formula(text, start, end)


def _is_believable_number(text: str, start: int, end: int) -> bool:
    """Whether digits alone may be somebody's number: near a word for one, and no amount."""
    if is_in_formula(text, start, end) or is_amount(text, start, end):
        return False
    if is_among_numbers(text, start, end):
        return False
    return any(
        announcing.is_near(entity, text, start, end)
        for entity in ("ID_NUMBER", "ACCOUNT_ID", "DEVICE_ID")
    )


def _is_cut_from_token(text: str, start: int, end: int) -> bool:
    """Whether the value is a piece of a path, UUID, identifier or longer number."""
    return bool(
        re.search(r"(?:\w[/\\_.]|\w|[0-9a-f]-)\Z", text[max(start - 2, 0) : start])
        or re.match(r"\w|[/\\_.-]\w|\(", text[end : end + 2])
    )


def is_card(text: str, start: int, end: int) -> bool:
    """Whether digits pass Luhn's check and begin as a brand of cards does.

    Fourteen to sixteen digits count by themselves; other lengths where they are grouped, or
    something says that they are a card.
    """
    value = text[start:end]
    digits = digits_of(value)
    if not _BRANDS.fullmatch(digits) or not checksums.luhn(digits):
        return False
    if re.match(r"\.\d", text[end : end + 2]):
        return False
    if announcing.is_near("CREDIT_CARD", text, start, end):  # also in code: card=4111...
        return True
    if is_in_formula(text, start, end):
        return False
    if re.search(r"\s\s|\n", value) or is_among_numbers(text, start, end):
        return False
    groups = [len(group) for group in re.findall(r"\d+", value)]
    if len(groups) == 1:
        return len(digits) in (14, 15, 16)
    return (
        groups in ([4, 6, 5], [4, 6, 4])
        or set(groups[:-1]) <= {4}
        or set(groups) == {1}
        or groups == [8, 8]
    )


def is_iban(text: str, start: int, end: int) -> bool:
    """Whether a value has an IBAN's check digits; or its length, where it is announced."""
    value = re.sub(r"[^A-Za-z0-9]", "", text[start:end])
    country, digits = value[:2].upper(), sum(map(str.isdigit, value))
    if not re.fullmatch(r"[A-Za-z]{2}\d\d[A-Za-z0-9]{10,30}", value):
        return False
    if checksums.iban(value):
        return IBAN_LENGTHS.get(country, len(value)) == len(value)
    return digits >= 10 and (
        IBAN_LENGTHS.get(country) == len(value)
        and announcing.is_near("IBAN_CODE", text, start, end)
    )
