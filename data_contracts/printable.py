"""Text that people see in a terminal or a log, without what only steers them.

A file's name, a model's answer or a line of somebody else's log may hold escape sequences that
move the cursor, colour or hide text, or characters that turn its direction around.
"""

import re
import unicodedata

# ECMA-48: CSI with its parameters is removed as a whole, so that coloured logs stay legible. Of any
# other sequence the control characters go and the rest is shown.
CSI = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]")
KEPT = frozenset("\n\t")
# Half of a pair of surrogates, as in a file name that is not UTF-8, cannot be encoded.
UNKNOWN = "\ufffd"


def printable(text: str) -> str:
    """`text` without control characters, except for line feeds and tabs, and without format
    characters (Unicode's categories Cc and Cf, line and paragraph separators)."""
    if text.isascii() and text.isprintable():
        return text
    return CSI.sub("", text).translate(_SIGNS)


def one_line(text: str) -> str:
    """`text` as `printable`, its white space as single spaces."""
    return " ".join(printable(text).split())


def is_text(name: str) -> bool:
    """Whether it can be written down: the name of a file may be any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Signs(dict[int, str | None]):
    """What becomes of each character, looked up when it is first met."""

    def __missing__(self, code: int) -> str | None:
        sign = chr(code)
        category = unicodedata.category(sign)
        shown: str | None = sign
        if category in ("Cc", "Cf") and sign not in KEPT:
            shown = None
        elif category in ("Zl", "Zp"):
            shown = " "
        elif category == "Cs":
            shown = UNKNOWN
        self[code] = shown
        return shown


_SIGNS = _Signs()
