"""Conversations without private people in seven languages.

Three sources in turn: `chatterbot-corpus`; generated small talk; and, where the system has them,
messages of its programs in that language (gettext catalogues), as people paste them. What
chatterbot-corpus says of history, films and the like, full of public figures and places, is a kind
of its own.
"""

import gettext
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from bench.pii.kinds.grammar import endless
from bench.pii.kinds.row import PACKAGES, Row, alternating, is_clean, shuffled

# Code of a language: its folder in chatterbot-corpus.
LANGUAGES = {
    "en": "english", "de": "german", "fr": "french", "es": "spanish", "it": "italian",
    "pt": "portuguese", "nl": "dutch",
}  # fmt: skip
CATALOGUES = Path("/usr/share/locale")
FEWEST_CHARACTERS, MOST_CHARACTERS = 40, 500
MOST_TURNS = 8
ABOUT_PUBLIC_FIGURES = frozenset(
    {"gossip", "history", "history_brasil", "literature", "movies", "music", "origen", "politics",
     "sport", "sports", "traveling", "trivia"}
)  # fmt: skip


def rows_in(language: str) -> Callable[[random.Random], Iterator[Row]]:
    def rows(draw: random.Random) -> Iterator[Row]:
        return alternating(
            draw,
            _spoken(language, draw, False),
            _generated(language, draw),
            _catalogued(language, draw),
        )

    return rows


def public_figures(draw: random.Random) -> Iterator[Row]:
    return alternating(draw, *(_spoken(language, draw, True) for language in LANGUAGES))


def _spoken(language: str, draw: random.Random, public: bool) -> Iterator[Row]:
    conversations: set[tuple[str, ...]] = set()
    folder = PACKAGES / "chatterbot_corpus" / "data" / LANGUAGES[language]
    for path in sorted(folder.glob("*.yml")):
        if (path.stem in ABOUT_PUBLIC_FIGURES) != public:
            continue
        content: Any = yaml.safe_load(path.read_bytes())
        for turns in content["conversations"]:
            texts = [str(turn) for turn in turns if isinstance(turn, str)][:MOST_TURNS]
            if texts and all(is_clean(text, 1) for text in texts):
                conversations.add(tuple(texts))
    yield from (Row(turns) for turns in shuffled(sorted(conversations), draw))


def _generated(language: str, draw: random.Random) -> Iterator[Row]:
    for text in endless(f"talk_{language}", draw):
        yield Row(tuple(turn.strip() for turn in text.split("%TURN")))


def _catalogued(language: str, draw: random.Random) -> Iterator[Row]:
    messages: set[str] = set()
    for path in sorted((CATALOGUES / language / "LC_MESSAGES").glob("*.mo")):
        try:
            with path.open("rb") as file:
                catalogue: dict[Any, str] = vars(gettext.GNUTranslations(file))["_catalog"]
        except (OSError, UnicodeDecodeError):
            continue
        messages.update(
            text
            for original, text in catalogue.items()
            if original and text != original and len(text) <= MOST_CHARACTERS
        )
    clean = [text for text in sorted(messages) if is_clean(text, FEWEST_CHARACTERS)]
    yield from (Row((text,)) for text in shuffled(clean, draw))
