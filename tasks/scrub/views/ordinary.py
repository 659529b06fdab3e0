"""The ordinary reading: what looks or sounds the same to a reader is the same character.

Look-alikes are letters of Unicode's confusables (https://www.unicode.org/Public/security/)
that pass for one Latin letter.
"""

import re
import unicodedata

from tasks.scrub.views.base import Edit, View

# Format characters (Cf) and others without a glyph: joiners, selectors, fillers, overlays.
_INVISIBLE = (
    r"\u00ad\u034f\u0332-\u0338\u0600-\u0605\u061c\u06dd\u070f\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    r"\u200b-\u200f\u202a-\u202e\u2060-\u206f\u20d0-\u20f0\u3164\ufe00-\ufe0f\ufeff\uffa0"
    r"\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_INVISIBLES = re.compile(f"[{_INVISIBLE}]+")

_LOOK_ALIKES = dict(
    zip(
        "АВЕЅІЈКМНОРСТУХѴԚԜҮ" "авеѕіјкмнорстухѵԛԝһӏԁүьпгԍ"
        "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ" "αβεικνορτυχγηωϲϳ" "օոսհզց",  # noqa: RUF001
        "ABESIJKMHOPCTYXVQWY" "abesijkmhopctyxvqwhldybnrg"
        "ABEZHIKMNOPTYX" "abeikvoptuxynwcj" "onuhqg",
        strict=True,
    )
)  # fmt: skip
_LOOK_ALIKE = re.compile("[" + "".join(_LOOK_ALIKES) + "]")
_LATIN = re.compile("[A-Za-z]")
_OTHER_LETTER = re.compile("[\u0370-\u052f\u0531-\u0587]")
_WORD = re.compile(r"\w+")


class _Forms(dict[int, str]):
    """What each character is a form of, learnt as it is met; always one character."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        form = unicodedata.normalize("NFKC", character)
        form = form if len(form) == 1 else character
        digit = unicodedata.decimal(form, None)
        self[code] = form if digit is None else str(digit)
        return self[code]


_FORMS = _Forms()


def view(original: str) -> View:
    """The reading that every recogniser and detector gets. It costs nothing for ASCII.

    Characters without a glyph are left out; full-width and other compatibility forms of one
    character are what they stand for; digits of all scripts are ASCII's; look-alikes among
    Latin letters are Latin; a line feed written as backslash and n is white space.
    """
    seen = View(original.replace("\\n", " \n"), original)
    if original.isascii():
        return seen
    hidden = [Edit(*match.span(), "") for match in _INVISIBLES.finditer(seen.text)]
    if hidden:
        seen = seen.rewritten(hidden, "plain")
    return View(same_letters(seen.text.translate(_FORMS)), original, seen.spans)


def normalised(text: str) -> str:
    """A text as `view` reads it, where its places do not matter."""
    return text if text.isascii() else _INVISIBLES.sub("", text).translate(_FORMS)


def same_letters(text: str) -> str:
    """With Latin letters for their look-alikes in words that mix both, and no others."""
    if _LOOK_ALIKE.search(text) is None or _LATIN.search(text) is None:
        return text
    return _WORD.sub(_latin, text)


def _latin(match: re.Match[str]) -> str:
    word = match[0]
    if word.isascii() or _LATIN.search(word) is None:
        return word
    if not all(letter in _LOOK_ALIKES for letter in _OTHER_LETTER.findall(word)):
        return word
    return "".join(_LOOK_ALIKES.get(letter, letter) for letter in word)
