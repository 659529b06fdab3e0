"""Numbers in words and e-mail addresses spelled out."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from tasks.scrub.views.base import Edit
from tasks.scrub.views.digits import FEWEST, MOST, is_listing, joiners
from tasks.scrub.views.number_words import NUMBER_WORDS, TIMES, WORDS

# A run needs so many words: "2 or 3 of the 4" has figures, "one or two" has few.
FEWEST_WORDS = 4


def _any(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_WORD = re.compile(r"[^\W\d_]+|\d{1,4}(?!\d)")
# Words of compounds, "trinta e dois", by what they begin with.
_COMPOUNDS = {word.split()[0] for word in WORDS if " " in word}
_LONGEST = max(word.count(" ") for word in WORDS) + 1
_PLUS = ("plus", "più", "mas", "más", "mais")
_BETWEEN = re.compile(
    r"[\s,.;:/\u2013\u2014-]{1,4}"
    r"(?:(?:dash|hyphen|space|then|and then|strich|bindestrich|tiret|espace|guion|guión|espacio"
    r"|trattino|spazio|traço|espaço|streepje|spatie)[\s,.-]{1,3})?",
    re.IGNORECASE,
)


class _Token(NamedTuple):
    start: int
    end: int
    digits: str
    is_word: bool


def numbers(text: str) -> Iterable[Edit]:
    """Digits said in words, "four one double five oh ...": 7 to 34 of them that do not count."""
    if not has_number_words(text.lower().replace("-", " ").split()):
        return
    run: list[_Token] = []
    for token in _tokens(text):
        if run and (token.digits == "+" or not _BETWEEN.fullmatch(text, run[-1].end, token.start)):
            yield from _number(run, text)
            run = []
        run.append(token)
    yield from _number(run, text)


def has_number_words(words: Sequence[str]) -> bool:
    """Whether three words (lower case, hyphens apart) in a row are numbers."""
    return not NUMBER_WORDS.isdisjoint(words) and (
        b"\1\1\1" in bytes(map(NUMBER_WORDS.__contains__, words))
    )


def _tokens(text: str) -> Iterable[_Token]:
    """Numbers in words and figures, left to right, each with the "double" before it."""
    words = list(_WORD.finditer(text))
    index, times, start = 0, 1, 0
    while index < len(words):
        word = words[index][0].lower()
        if times == 1:
            start = words[index].start()
        if word in TIMES:
            times, taken = TIMES[word], 1
        elif word in _PLUS:
            yield _Token(*words[index].span(), "+", False)
            taken = 1
        elif word.isdigit():
            yield _Token(start, words[index].end(), word * times, False)
            times, taken = 1, 1
        else:
            taken = _length(text, words[index : index + _LONGEST])
            if taken:
                last = words[index + taken - 1].end()
                value = WORDS[_key(text[words[index].start() : last])]
                yield _Token(start, last, value * times, True)
            times = 1
        index += taken or 1


def _key(words: str) -> str:
    return words.lower().replace("-", " ")


def _length(text: str, words: Sequence[re.Match[str]]) -> int:
    """How many of the words are the longest number at their beginning; 0 if none is."""
    start = words[0].start()
    longest = len(words) if words[0][0].lower() in _COMPOUNDS else 1
    for count in range(longest, 0, -1):
        if _key(text[start : words[count - 1].end()]) in WORDS:
            return count
    return 0


def _number(run: Sequence[_Token], text: str) -> Iterable[Edit]:
    digits = "".join(token.digits for token in run).lstrip("+")
    said = sum(token.is_word for token in run)
    if said < FEWEST_WORDS or not FEWEST <= len(digits) <= MOST:
        return
    if is_listing([int(token.digits) for token in run if token.digits != "+"]):
        return
    gaps = [text[one.end : after.start] for one, after in pairwise(run)]
    for token, after, joiner in zip(run, run[1:], joiners(gaps), strict=False):
        yield Edit(*token[:3])
        yield Edit(token.end, after.start, "" if token.digits == "+" else joiner)
    yield Edit(*run[-1][:3])


AT_WORDS = (
    "at",
    "ät",
    "arroba",
    "arobase",
    "arrobase",
    "chiocciola",
    "apenstaartje",
    "klammeraffe",
)
_SIGNS = {
    **dict.fromkeys(("dot", "punkt", "point", "punto", "ponto", "punt", "period"), "."),
    **dict.fromkeys(
        ("underscore", "unterstrich", "tiret bas", "guion bajo", "guión bajo", "sottolineato"), "_"
    ),
    **dict.fromkeys(
        ("dash", "hyphen", "minus", "bindestrich", "tiret", "guion", "guión", "trattino", "traço",
         "streepje"), "-",
    ),
    "plus": "+",
}  # fmt: skip
DOTS = tuple(word for word, sign in _SIGNS.items() if sign == ".")
DOT_WORDS = frozenset(DOTS)
_DOTS = _any(DOTS)
_AT_SIGN = re.compile(
    rf"[\[({{<]\s?(?:{_any(AT_WORDS)}|@)\s?[\])}}>]|(?<=\s)(?:{_any(AT_WORDS)})(?=\s)|@",
    re.IGNORECASE,
)
_DOT = rf"\s{{0,2}}[\[({{<]\s?(?:{_DOTS}|\.)\s?[\])}}>]\s{{0,2}}|\s(?:{_DOTS})\s|\s\.\s|\."
_SIGN = rf"(?:{_DOT}|\s(?:{_any(_SIGNS)})\s)"
_LOCAL = re.compile(
    r"(?<![\w.+-])(?P<value>(?:(?:[^\W_]\s){2,40}[^\W_]|[^\W_][\w+-]{0,63}+)"
    rf"(?:{_SIGN}(?:(?:[^\W_]\s){{2,40}}[^\W_](?!\w)|[^\W_][\w+-]{{0,63}}+)){{0,5}})\s{{0,2}}$",
    re.IGNORECASE,
)
_LABEL = r"(?:(?:[^\W_]\s){1,40}[^\W_](?!\w)|[^\W_][\w-]{0,62}+)"
_HOST = re.compile(
    rf"\s{{0,2}}(?P<value>(?:{_LABEL}{_SIGN}){{0,4}}{_LABEL}(?:{_DOT})"
    r"(?:(?:[^\W\d_]\s){1,9}[^\W\d_](?!\w)|[^\W\d_]{2,24}+(?![\w-])))",
    re.IGNORECASE,
)
_BEFORE = 120
_CAPITALS = re.compile(
    r"[a-z0-9](?<![\w.+-].)[a-z0-9._+-]{0,63}?(?P<at>AT)[a-z0-9-]{1,63}(?:DOT[a-z0-9-]{1,63}){1,4}"
)
_LETTERS = re.compile(r"[^\W_](?<!\w.) [^\W_] (?:\.|[^\W_] |@)|@ [^\W_] [^\W_] ")
_BRACKETED = re.compile(rf"[\[({{<]\s?(?:{_any((*AT_WORDS, *DOTS))}|@)\s?[\])}}>]", re.IGNORECASE)
_PART = re.compile(
    rf"\s{{0,2}}[\[({{<]\s?(?:{_DOTS}|\.)\s?[\])}}>]\s{{0,2}}|\s(?P<sign>{_any(_SIGNS)})\s|\s+\.\s+|\s+",
    re.IGNORECASE,
)
# What makes an address of words that could be a sentence: "I saw it at amazon dot com".
_MAIL = re.compile(
    r"mail|@|\b(?:reach|write|contact|address|adresse|correo|courriel|indirizzo|endere\u00e7o"
    r"|adres|schreib|\u00e9cri|escr[ií]b|scriv|schrijf)",
    re.IGNORECASE,
)
# "Look at example dot com", "mail me at example dot com".
_NOT_NAMES = frozenset(
    ("us", "me", "it", "him", "her", "them", "you", "is", "are", "was", "here", "available", "look",
     "mail", "email", "e-mail", "one", "that", "this")
)  # fmt: skip
_NEAR = 60
_PROVIDERS = re.compile(
    r"(?:gmail|googlemail|yahoo|ymail|hotmail|outlook|live|msn|icloud|aol|proton|protonmail|gmx"
    r"|web|t-online|freenet|posteo|orange|wanadoo|laposte|free|sfr|libero|tiscali|virgilio|terra"
    r"|uol|bol|sapo|ziggo|kpnmail|planet|xs4all|fastmail|zoho|yandex|hey|pm|tuta|tutanota)\.[a-z.]+",
    re.IGNORECASE,
)


def addresses(text: str) -> Iterable[Edit]:
    """E-mail addresses as people spell them, where they are more than a host after "at"."""
    if (
        DOT_WORDS.isdisjoint(text.lower().split())
        and not _BRACKETED.search(text)
        and not ("@" in text and _LETTERS.search(text))
    ):
        return
    done = 0
    for sign in _AT_SIGN.finditer(text):
        host = _HOST.match(text, sign.end())
        local = host and _LOCAL.search(text, max(sign.start() - _BEFORE, done), sign.start())
        if host and local and _is_address(local, sign[0], host):
            yield from _plain(local)
            yield Edit(local.end("value"), host.start("value"), "@")
            yield from _plain(host)
            done = host.end()


def joined_addresses(text: str) -> Iterable[Edit]:
    """johnATexampleDOTcom"""
    if "DOT" in text:
        for match in _CAPITALS.finditer(text):
            yield Edit(*match.span("at"), "@")
            for dot in re.finditer("DOT", match[0]):
                yield Edit(match.start() + dot.start(), match.start() + dot.end(), ".")


def _is_address(local: re.Match[str], sign: str, host: re.Match[str]) -> bool:
    text = local.string
    spelled = _PART.search(host["value"]) is not None
    if local["value"].lower() in _NOT_NAMES:
        return False
    if not sign.isalpha():  # brackets or @
        return sign != "@" or spelled or " " in local["value"]
    if not spelled:
        return False
    if sign.lower() not in ("at", "ät") or (sign == "AT" and not text.isupper()):
        return True
    if _PART.search(local["value"]) or re.search(r"[\d_.+]", local["value"]):
        return True
    return _PROVIDERS.fullmatch(_PART.sub(_sign, host["value"])) is not None or (
        _MAIL.search(text, max(local.start() - _NEAR, 0), local.start()) is not None
    )


def _sign(part: re.Match[str]) -> str:
    if part["sign"]:
        return _SIGNS[part["sign"].lower()]
    return "." if part[0].strip() else ""


def _plain(spelled: re.Match[str]) -> Iterable[Edit]:
    start = spelled.start("value")
    for part in _PART.finditer(spelled["value"]):
        yield Edit(start + part.start(), start + part.end(), _sign(part))
