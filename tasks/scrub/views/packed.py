"""Texts packed into runs of letters and digits: base64 and hexadecimal."""

import base64
import binascii
import re
from collections.abc import Iterable

from tasks.scrub.views.base import Edit
from tasks.scrub.views.ordinary import normalised

# Lines of 60 to 76 characters, as mail and PEM break them, make one run.
_CHARACTER = "[A-Za-z0-9+/_-]"
_RUN = re.compile(
    rf"{_CHARACTER}(?<!{_CHARACTER}.){_CHARACTER}{{9,}}+"
    rf"(?:\n(?<={_CHARACTER}{{60}}\n){_CHARACTER}{{2,}}+){{0,2000}}={{0,2}}"
)
_HEXADECIMAL = re.compile(r"(?:0x)?(?=[0-9]*[A-Fa-f])((?:[2-7][0-9A-Fa-f]){9,}+)")
_SHORTEST = 12
# So many characters tell whether all can be text.
_SAMPLE = 64


def runs(text: str) -> Iterable[Edit]:
    """Runs of base64 (standard, URL-safe, in lines) and hexadecimal that are printable text."""
    if max(map(len, text.split()), default=0) < _SHORTEST:
        return
    for match in _RUN.finditer(text):
        if len(match[0]) >= _SHORTEST and not (match[0].isalpha() and match[0].islower()):
            digits = _HEXADECIMAL.fullmatch(match[0])
            decoded = from_hexadecimal(digits[1]) if digits else from_base64(match[0])
            if decoded:
                yield Edit(*match.span(), f" {normalised(decoded)} ")


def from_hexadecimal(run: str) -> str | None:
    """The text, or None if it is not printable."""
    return _printable(bytes.fromhex(run))


def from_base64(run: str) -> str | None:
    """The text, or None if the run is not base64 of printable UTF-8."""
    body = "".join(run.rstrip("=").split())
    if len(body) % 4 == 1 or len(body) < _SHORTEST - 2:
        return None
    body = body.replace("-", "+").replace("_", "/")
    if _decoded(body[:_SAMPLE], cut=True) is None:
        return None
    return _decoded(body, cut=False)


def _decoded(body: str, *, cut: bool) -> str | None:
    try:
        octets = base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
    except binascii.Error:
        return None
    if cut:  # perhaps inside a character
        return _printable(octets.decode("utf-8", "ignore").encode()[:-4] or octets[:1])
    return _printable(octets)


def _printable(octets: bytes) -> str | None:
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if all(c.isprintable() or c in "\r\n\t" for c in text) else None
