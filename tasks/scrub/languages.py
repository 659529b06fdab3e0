"""Which language a text is in, before the learned detector is asked.

A detector that was not taught a language takes its ordinary words for names. Script comes first,
as it needs few letters; the language of a Latin text needs some words, and is believed to be
another than those covered only where that is likely.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

WORD = re.compile(r"[^\W\d_]+")
# Of a text, enough to tell its language.
CHARACTERS = 600
# A Latin text of fewer words is taken to be in a covered language.
WORDS = 4
# How much likelier the likeliest language is to be than all that are covered together.
LIKELIER = 0.8
# Of so many words of prose, one at least is among the language's commonest.
PROSE = 10
# Letters that are a syllable or a word each.
DENSE = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL")
# Scripts by the first word of their letters' names in Unicode, with the languages written in them.
SCRIPTS = {
    "LATIN": (),
    "CYRILLIC": ("ru", "uk", "bg", "sr", "mk", "be", "kk", "mn", "ky"),
    "GREEK": ("el",),
    "ARABIC": ("ar", "fa", "ur", "ps", "ug"),
    "HEBREW": ("he",),
    "DEVANAGARI": ("hi", "mr", "ne"),
    "BENGALI": ("bn", "as"),
    "GURMUKHI": ("pa",),
    "GUJARATI": ("gu",),
    "ORIYA": ("or",),
    "TAMIL": ("ta",),
    "TELUGU": ("te",),
    "KANNADA": ("kn",),
    "MALAYALAM": ("ml",),
    "SINHALA": ("si",),
    "THAI": ("th",),
    "LAO": ("lo",),
    "KHMER": ("km",),
    "GEORGIAN": ("ka",),
    "ARMENIAN": ("hy",),
    "ETHIOPIC": ("am",),
    "HANGUL": ("ko",),
    "HIRAGANA": ("ja",),
    "KATAKANA": ("ja",),
    "CJK": ("zh", "ja"),
}  # fmt: skip
# Where a text has letters of these, they decide: Japanese is mostly written in Han.
DECIDE = ("HIRAGANA", "KATAKANA", "HANGUL")


def language_of(text: str, covered: Collection[str]) -> str:
    """ISO 639-1 code of a text's language; empty if it says too little to be anything else than
    one of those `covered`, or if it is likely to be one of them."""
    script = script_of(text)
    if script == "":
        return ""
    if script != "LATIN":
        written = SCRIPTS.get(script, ())
        if any(code in covered for code in written):
            return ""
        return written[0] if written else "und"
    words = WORD.findall(text[:CHARACTERS])
    if len(words) < WORDS or is_common(words, covered):
        return ""
    chances = dict(classifier().rank(" ".join(words).casefold()))
    inside = sum(chance for code, chance in chances.items() if code in covered)
    best, chance = max(
        ((code, chance) for code, chance in chances.items() if code not in covered),
        key=lambda pair: pair[1],
        default=("", 0.0),
    )
    likely = chance >= LIKELIER * (chance + inside) and chance > 0.5
    return best if likely and is_prose(words, best) else ""


def script_of(text: str) -> str:
    """The script of most of a text's letters, by its name in Unicode; empty if it has none."""
    if text.isascii():
        return "LATIN" if WORD.search(text) else ""
    counts = Counter(_script(sign) for sign in text[:CHARACTERS] if sign.isalpha())
    if not counts:
        return ""
    script = max(counts, key=lambda one: counts[one] * (3 if one in DENSE else 1))
    if script in ("CJK", *DECIDE):
        return next((one for one in DECIDE if counts[one]), script)
    return script


@cache
def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def is_prose(words: Sequence[str], code: str) -> bool:
    """Whether words are sentences of a language, and not names, streets and towns of its country:
    those say nothing of the language around them."""
    small = [word for word in words if word.islower()]
    if not (common := common_words(code)):
        return 2 * len(small) > len(words)
    said = sum(word.casefold() in common and len(word) > 1 for word in words)
    return said > 1 and PROSE * said >= len(words)


def is_common(words: Sequence[str], covered: Collection[str]) -> bool:
    """Whether a third of the words are among the commonest of one language that is covered."""
    small = [word.casefold() for word in words]
    return any(
        3 * sum(word in common_words(code) for word in small) >= len(small) for code in covered
    )


@cache
def common_words(code: str) -> frozenset[str]:
    """The commonest words of a language, as spaCy lists them; empty if it has no such list."""
    import importlib

    try:
        module = importlib.import_module(f"spacy.lang.{code}.stop_words")
    except ImportError:
        return frozenset()
    return frozenset(word for word in module.STOP_WORDS if word.isalpha())


@cache
def classifier() -> Any:
    """py3langid's model with chances that add up to one."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
