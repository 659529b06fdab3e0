"""What the detector is trained on: invented personal data, alone and amid real conversations."""

import random
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache

from data_contracts.findings import Finding, LabelledText
from tasks.scrub.synthetic.sentences import sentences
from tasks.scrub.synthetic.values import names_and_places
from tasks.sources import chitchat_rows

# Conversations whose number ends in one of these are never trained on, but measured with.
MEASURED_WITH = ("0", "1", "2")
COMMON = 40
WORD = re.compile(r"[^\W\d_]+")


def corpus(count: int, seed: int) -> Iterator[LabelledText]:
    """Labelled texts: sentences, several of them in a row, and messages with none or one amid."""
    draw = random.Random(seed)
    source = sentences(10 * count, seed)
    messages = nobodys_messages()
    for _ in range(count):
        kind = draw.random()
        if kind < 0.45:
            yield next(source)
        elif kind < 0.65:
            yield joined([next(source) for _ in range(draw.randint(2, 4))], draw)
        elif kind < 0.85:
            yield LabelledText(draw.choice(messages), [])
        else:
            parts = [LabelledText(draw.choice(messages), []), next(source)]
            draw.shuffle(parts)
            yield joined(parts, draw)


def joined(parts: list[LabelledText], draw: random.Random) -> LabelledText:
    joint = draw.choice((" ", ". ", "\n", "\n\n", ", ", " - ", "! "))
    text, labels = "", []
    for part in parts:
        text += joint if text else ""
        labels += [
            Finding(len(text) + label.start, len(text) + label.end, label.entity)
            for label in part.labels
        ]
        text += part.text
    return LabelledText(text, labels)


@cache
def nobodys_messages() -> list[str]:
    """Real messages that name nobody and no place.

    That is: no capital amid a sentence but `I`, and no word that is a name or place, unless the
    conversations write it small so often that it is a common word.
    """
    messages = [
        message["content"]
        for number, row in enumerate(chitchat_rows())
        if not str(number).endswith(MEASURED_WITH)
        for message in row["messages"]
    ]
    counts = Counter(word for text in messages for word in WORD.findall(text) if word.islower())
    named = {word for word in names_and_places() if counts[word] < COMMON}
    return [text for text in messages if not _names_somebody(text, named)]


def _names_somebody(text: str, named: set[str]) -> bool:
    for word in WORD.finditer(text):
        if word[0].casefold() in named:
            return True
        before = text[: word.start()].rstrip(" \"'(*:)")
        starts = not before or before[-1] in ".!?\n"
        if word[0][0].isupper() and not starts and word[0] not in ("I", "OK", "LOL", "TV"):
            return True
    return False
