"""Sentences as people post them: small letters, typing errors, handles, hashtags, no punctuation.

After the texts of WNUT-17 (Derczynski et al., 2017), which no package carries. Only sentences whose
labels are all names: a number with a typing error is another number.
"""

import random
import string
from collections.abc import Callable, Sequence

from data_contracts.findings import Finding, LabelledText

NAMES = {"PERSON", "LOCATION", "ORGANIZATION"}
ENDS = (" lol", " smh", " 😂", " !!", " #fail", " tbh", "...", " pls rt", " 🙏🏽", " idk")
STARTS = ("rt ", "omg ", "so ", "yo ", "wait ", "RT: ")
OFTEN = 0.04
# One text for each character of the sentence: itself, another, more than one, or none; and one
# before the first and one behind the last.
Characters = list[str]


def noisy(texts: Sequence[LabelledText], count: int, draw: random.Random) -> list[LabelledText]:
    """Up to so many of the sentences, each with one to three kinds of noise."""
    chosen = [text for text in texts if {label.entity for label in text.labels} <= NAMES]
    return [_posted(text, draw) for text in chosen if text.labels][:count]


def _posted(sentence: LabelledText, draw: random.Random) -> LabelledText:
    characters = ["", *sentence.text, ""]
    labels = [Finding(one.start + 1, one.end + 1, one.entity) for one in sentence.labels]
    if draw.random() < 0.25:
        at = draw.randrange(len(labels))
        labels[at] = _as_tag(characters, labels[at])
    for noise in draw.sample(KINDS, draw.randint(1, 3)):
        noise(characters, draw)
    places = [0]
    for part in characters:
        places.append(places[-1] + len(part))
    text = "".join(characters)
    moved = [Finding(places[one.start], places[one.end], one.entity) for one in labels]
    return LabelledText(text, [one for one in moved if one.end > one.start])


def _as_tag(characters: Characters, label: Finding) -> Finding:
    """A person as a handle, anything else as a hashtag."""
    for at in range(label.start, label.end):
        if not characters[at].isalnum():
            characters[at] = ""
    if label.entity != "PERSON":
        characters[label.start] = "#" + characters[label.start]
        return label
    characters[label.start] = "@" + characters[label.start]
    for at in range(label.start, label.end):
        characters[at] = characters[at].lower()
    return Finding(label.start, label.end, "USERNAME")


def _small(characters: Characters, draw: random.Random) -> None:  # noqa: ARG001
    characters[:] = [part.lower() for part in characters]


def _loud(characters: Characters, draw: random.Random) -> None:
    if draw.random() < 0.3:
        characters[:] = [part.upper() for part in characters]


def _mistyped(characters: Characters, draw: random.Random) -> None:
    """Letters left out, doubled, exchanged with the next or hit beside."""
    for at in range(1, len(characters) - 1):
        part, after = characters[at], characters[at + 1]
        if not (part.isalpha() and after.isalpha()) or draw.random() >= OFTEN:
            continue
        kind = draw.randrange(4)
        if kind == 0:
            characters[at] = ""
        elif kind == 1:
            characters[at] = part + part
        elif kind == 2:
            characters[at], characters[at + 1] = after, part
        else:
            characters[at] = draw.choice(string.ascii_lowercase)


def _unpunctuated(characters: Characters, draw: random.Random) -> None:  # noqa: ARG001
    characters[:] = ["" if part in ",.;:!?'\"" else part for part in characters]


def _framed(characters: Characters, draw: random.Random) -> None:
    characters[0] = draw.choice(STARTS)
    characters[-1] = draw.choice(ENDS)


def _stretched(characters: Characters, draw: random.Random) -> None:
    """A vowel that somebody held: `sooo`."""
    vowels = [at for at, part in enumerate(characters) if part in ("a", "e", "i", "o", "u")]
    if vowels:
        characters[draw.choice(vowels)] *= draw.randint(3, 5)


KINDS: tuple[Callable[[Characters, random.Random], None], ...] = (
    _small, _small, _loud, _mistyped, _mistyped, _unpunctuated, _framed, _stretched,
)  # fmt: skip
