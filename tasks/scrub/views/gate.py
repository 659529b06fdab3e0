"""Whether a text can hide anything, for about a microsecond: hardly an ordinary one can."""

import re
import string

from tasks.scrub.views.digits import FEWEST
from tasks.scrub.views.number_words import NUMBER_WORDS
from tasks.scrub.views.spelled import AT_WORDS, DOT_WORDS, has_number_words

# What an ordinary text consists of, but for capitals and digits.
_PLAIN = f"{string.ascii_lowercase}{string.whitespace}.,;:!?'\"-".encode() + bytes(range(128, 256))
# The beginning of a code, of an address, of a bracketed word in one.
_CODE = re.compile(
    r"[&%=\\@\[({<](?:(?<=&)[#A-Za-z]|(?<=%)[0-9A-Fa-fu]|(?<==)[0-9A-F\r\n]|(?<=\\)[uUx\\]|(?<=@)"
    rf"|(?<=[\[({{<])\s?(?:@|\.|{'|'.join(sorted((*AT_WORDS, *DOT_WORDS)))})\s?[\])}}>])",
    re.IGNORECASE,
)
_DIGITS = string.digits.encode()
_WORDS = NUMBER_WORDS | DOT_WORDS
# Characters of the shortest run of base64, and capitals and digits among them.
_LONG, _MIXED = 12, 3


def is_ordinary(text: str) -> bool:
    """Whether nothing is hidden: no signs, few digits, few number words, no mixed long runs."""
    if len(text) < _LONG:
        return True
    rest = _rest(text)
    if rest and not rest.isalnum() and _CODE.search(text):
        return False
    if len(rest) >= FEWEST and len(rest) - len(rest.translate(None, _DIGITS)) >= FEWEST:
        return False
    words = text.lower().replace("-", " ").split()
    if not _WORDS.isdisjoint(words) and (
        has_number_words(words) or not DOT_WORDS.isdisjoint(words)
    ):
        return False
    return len(rest) < _MIXED or not any(
        len(word) >= _LONG and len(_rest(word)) >= _MIXED for word in text.split()
    )


def _rest(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass").translate(None, _PLAIN)
