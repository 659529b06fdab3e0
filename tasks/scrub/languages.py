"""Which language a text is in, before the learned detector is asked.

A detector that was not taught a language takes its ordinary words for names. The script is told
first, from few letters. Telling the language of a Latin text takes several words, and a text counts
as uncovered only if another language than the covered ones is likely.
"""

import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from tasks.text import LANGUAGE_WORDS, WORD

# The beginning of a text, enough to tell its language.
CHARACTERS = 600
# The least share that the likeliest uncovered language has of its chance and the covered ones'.
LIKELIER = 0.8
# Prose has at least one stop word in so many words.
PROSE = 10
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
# Scripts in which each letter is a syllable or a word.
DENSE = ("CJK", *DECIDE)


def language_of(text: str, covered: Collection[str]) -> str:
    """ISO 639-1 code of a text's language if that is likely to be none of those `covered`; empty
    if it may be one of them, or the text is too short to tell."""
    script = script_of(text)
    if script == "":
        return ""
    if script != "LATIN":
        written = SCRIPTS.get(script, ())
        if any(code in covered for code in written):
            return ""
        return written[0] if written else "und"
    words = WORD.findall(text[:CHARACTERS])
    if len(words) < LANGUAGE_WORDS or is_common(words, covered):
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
    if script in DENSE:
        return next((one for one in DECIDE if counts[one]), script)
    return script


@cache
def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def is_prose(words: Sequence[str], code: str) -> bool:
    """Whether words are sentences of a language, and not only names, streets and towns of its
    country, which stand in texts of any language."""
    if not (common := stop_words(code)):
        return 2 * sum(word.islower() for word in words) > len(words)
    stops = sum(word.casefold() in common and len(word) > 1 for word in words)
    return stops > 1 and PROSE * stops >= len(words)


def is_common(words: Sequence[str], covered: Collection[str]) -> bool:
    """Whether a third of the words are stop words of one of the covered languages."""
    small = [word.casefold() for word in words]
    return any(
        3 * sum(word in stop_words(code) for word in small) >= len(small) for code in covered
    )


@cache
def stop_words(code: str) -> frozenset[str]:
    """spaCy's stop words of a language; empty if it has no such list."""
    try:
        module = import_module(f"spacy.lang.{code}.stop_words")
    except ImportError:
        return frozenset()
    return frozenset(word for word in module.STOP_WORDS if word.isalpha())


@cache
def classifier() -> Any:
    """py3langid's model with chances that add up to one."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
