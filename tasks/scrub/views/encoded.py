"""Characters written as codes: HTML entities, URLs, quoted-printable, escapes of languages.

Each function gives the edits that decode a text once. A character is decoded by itself, so that
an encoded quotation mark beside a value is not part of the value.
"""

import html
import re
from collections.abc import Callable, Iterable

from tasks.scrub.views.base import Edit
from tasks.scrub.views.ordinary import normalised

_ENTITY = re.compile(
    r"&(?:#(?:[xX]0{0,8}[0-9a-fA-F]{1,6}|0{0,8}[0-9]{1,7});?|[A-Za-z][A-Za-z0-9]{1,30};)"
)


def _octets(sign: str) -> str:
    """One character of UTF-8, each octet written as the sign and two hexadecimal digits."""
    more = rf"{sign}[89ABab][0-9A-Fa-f]"
    return (
        rf"{sign}[0-7][0-9A-Fa-f]|{sign}[CDcd][0-9A-Fa-f]{more}"
        rf"|{sign}[Ee][0-9A-Fa-f](?:{more}){{2}}|{sign}[Ff][0-7](?:{more}){{3}}"
    )


_PERCENT = re.compile(rf"{_octets('%')}|%u[0-9A-Fa-f]{{4}}")
_FORM_SPACES = re.compile(r"[?&][\w.-]{1,40}=(?=[\d+]{7,60}(?:&|\s|$))[\d+]+")
_ESCAPE = re.compile(
    r"\\{1,4}(?:u\{0{0,5}([0-9A-Fa-f]{1,6})\}|[ux]00([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})"
    r"|U([0-9A-Fa-f]{8})|x([0-9A-Fa-f]{2}))"
)
_QUOTED = re.compile(rf"=\r?\n|{_octets('=')}")
# What only quoted-printable text has: octets in a row, its own sign encoded, soft line breaks.
_QUOTED_TEXT = re.compile(
    r"=(?:[0-9A-F]{2}=[0-9A-F]{2}|3D[^\s=]|20\r?\n|(?<=[\w@.,+-]=)\r?\n[\w@.=-])"
)
_QUOTED_AT = re.compile(r"=40(?=[A-Za-z][\w-]{0,62}(?:\.|=2E)[a-z]{2})")
_LOCAL = re.compile(r"(?<![?&\w.+-])[\w.+-]{1,64}$")


def entities(text: str) -> Iterable[Edit]:
    """HTML and XML: &#64; &#x40; &commat;"""
    if "&" in text:
        for match in _ENTITY.finditer(text):
            decoded = html.unescape(match[0])
            if decoded != match[0]:
                yield from _edit(match.span(), decoded)


def percent(text: str) -> Iterable[Edit]:
    """URLs and forms: %40, %u0040, and + for a space between groups of digits."""
    if "%" in text:
        for match in _PERCENT.finditer(text):
            decode = _code if match[0][1] == "u" else _utf8
            yield from _edit(match.span(), decode(match[0].lstrip("%u")))


def form_spaces(text: str) -> Iterable[Edit]:
    """+ between digits of a form's field: number=4111+1111+1111+1111."""
    if "+" in text and "=" in text:
        for field in _FORM_SPACES.finditer(text):
            for place in range(field.start(), field.end()):
                if text[place] == "+":
                    yield Edit(place, place + 1, " ")


def escapes(text: str) -> Iterable[Edit]:
    r"""JSON, JavaScript, Python, C: \u0040, \x40, \u{40}, also with the backslash escaped."""
    if "\\" in text:
        for match in _ESCAPE.finditer(text):
            yield from _edit(match.span(), _code(next(filter(None, match.groups()))))


def quoted_printable(text: str) -> Iterable[Edit]:
    """Mail: =40, =C3=A9, soft line breaks; `a=40` in code is none."""
    if "=" not in text:
        return
    if _QUOTED_TEXT.search(text) is None:
        for match in _QUOTED_AT.finditer(text):
            if _LOCAL.search(text[max(match.start() - 65, 0) : match.start()]):
                yield Edit(*match.span(), "@")
        return
    for match in _QUOTED.finditer(text):
        if match[0].endswith("\n"):
            yield Edit(*match.span(), "")
        else:
            yield from _edit(match.span(), _utf8(match[0]))


def _utf8(octets: str) -> str:
    return bytes.fromhex(re.sub("[%=]", "", octets)).decode("utf-8", "replace")


def _code(digits: str) -> str:
    code = int(digits, 16)
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else ""


def _edit(span: tuple[int, int], decoded: str) -> Iterable[Edit]:
    """The edit, if the code is of something that can be read or of white space."""
    shown = normalised(decoded)
    if decoded and "\ufffd" not in decoded and (shown.isprintable() or shown.isspace()):
        yield Edit(*span, shown)


DECODERS: tuple[Callable[[str], Iterable[Edit]], ...] = (
    quoted_printable,
    entities,
    form_spaces,
    percent,
    escapes,
)
