"""Templates that clean text is written from: `texts/NAME.txt`.

A line `@name one | two | three` names a list of words, which may hold slots themselves; templates
are separated by lines of `%%`. In a template `{{name}}` is a word of a list, `{{3-60}}` a number,
`{{0-59:02}}` one of two digits, `{{hex8}}` eight hexadecimal digits, `{{uuid}}`, `{{day}}`,
`{{clock}}` and `{{share}}` what they say; `{{x=name}}` remembers its word, and `{{=x}}` repeats it.
"""

import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

TEXTS = Path(__file__).with_name("texts")
SLOT = re.compile(r"\{\{(?:(\w*)=)?([^{}]+)\}\}")
RANGE = re.compile(r"(\d+)-(\d+)(?::(\w+))?")
HEX = re.compile(r"hex(\d+)")


class Grammar:
    """The templates of one file, filled at random."""

    def __init__(self, name: str) -> None:
        self._words: dict[str, list[str]] = {}
        lines = []
        for line in (TEXTS / f"{name}.txt").read_text(encoding="utf-8").splitlines():
            if line.startswith("@"):
                head, _, words = line[1:].partition(" ")
                self._words.setdefault(head, []).extend(words.split(" | "))
            else:
                lines.append(line)
        blocks = "\n".join(lines).split("\n%%\n")
        self.templates = [block.strip("\n") for block in blocks if block.strip()]

    def write(self, draw: random.Random) -> str:
        """One template, filled."""
        return self.fill(draw.choice(self.templates), draw)

    def fill(self, template: str, draw: random.Random) -> str:
        """Raises KeyError: the file has no list for a slot of the template."""
        remembered: dict[str, str] = {}

        def value(slot: re.Match[str]) -> str:
            name, kind = slot[1], slot[2]
            if name == "":
                return remembered[kind]
            drawn = SLOT.sub(value, self._value(kind, draw))
            if name:
                remembered[name] = drawn
            return drawn

        return SLOT.sub(value, template)

    def _value(self, kind: str, draw: random.Random) -> str:
        if kind in self._words:
            return draw.choice(self._words[kind])
        if span := RANGE.fullmatch(kind):
            return format(draw.randint(int(span[1]), int(span[2])), span[3] or "")
        if digits := HEX.fullmatch(kind):
            return f"{draw.getrandbits(4 * int(digits[1])):0{digits[1]}x}"
        return {"uuid": _uuid, "day": _day, "clock": _clock, "share": _share}[kind](draw)


@cache
def grammar(name: str) -> Grammar:
    return Grammar(name)


def endless(name: str, draw: random.Random) -> Iterator[str]:
    while True:
        yield grammar(name).write(draw)


def _uuid(draw: random.Random) -> str:
    digits = f"{draw.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _day(draw: random.Random) -> str:
    return f"{draw.randint(2012, 2026)}-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"


def _clock(draw: random.Random) -> str:
    return f"{draw.randint(0, 23):02}:{draw.randint(0, 59):02}:{draw.randint(0, 59):02}"


def _share(draw: random.Random) -> str:
    return f"{draw.random():.{draw.randint(2, 6)}f}"
