"""What can be told of a text without a model."""

import re

from data_contracts.policy import PLACEHOLDER

WORD = re.compile(r"[^\W\d_]+", re.UNICODE)
# How chat models say that they will not: the phrases that common refusal counts look for.
REFUSAL = re.compile(
    r"\b(i(['\u2019]m| am) (very )?sorry,? but|i (can(no|['\u2019])t|am not able to|am unable to|"
    r"won['\u2019]t be able to) (help|assist|answer|provide|do|comply|discuss|fulfil)|"
    r"as an? (ai|artificial intelligence|language model)|i must decline)",
    re.IGNORECASE,
)
# Fewer words do not tell a language.
LANGUAGE_WORDS = 4


def is_refusal(text: str) -> bool:
    """Whether it says that it will not do what was asked, in English."""
    return REFUSAL.search(text) is not None


def language(text: str) -> str:
    """ISO 639-1 code; empty where the text is too short to tell."""
    if len(WORD.findall(text)) < LANGUAGE_WORDS:
        return ""
    import py3langid

    return str(py3langid.classify(text)[0])


def words(text: str) -> list[str]:
    return [word.casefold() for word in WORD.findall(PLACEHOLDER.sub(" ", text))]
