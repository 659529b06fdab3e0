"""Texts in which there is nobody: what the detector must leave alone, and the same kinds with
somebody in them, so that a kind of text alone decides nothing."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

from data_contracts.findings import LabelledText
from tasks.scrub.synthetic.arithmetic import with_numbers
from tasks.scrub.synthetic.sentences import SLOT, choose, fill_slots, joined, unescaped, with_text
from tasks.scrub.synthetic.source import LANGUAGES, by_share
from tasks.scrub.synthetic.values import ENTITIES, Values
from tasks.scrub.synthetic.vocabulary import Vocabulary

# How often each kind is drawn, relative to the others; each is a file of `plain_kinds`. Texts about
# the famous and about inventions are few, because names in them look like anybody's.
KINDS = {
    "arithmetic": 10, "equations": 4, "latex": 3, "measures": 4, "python": 6, "javascript": 3,
    "sql": 4, "other_code": 3, "shell": 3, "json": 4, "yaml": 4, "logs": 5, "traces": 3, "http": 2,
    "tables": 3, "lists": 3, "numbers": 4, "answers": 6, "catalogue": 5, "versions": 4, "dates": 5,
    "encyclopaedia": 1, "quotations": 2, "instructions": 7, "support": 6, "science": 3, "games": 2,
    "headings": 4, "words": 8, "sentences": 24,
}  # fmt: skip
# Of kinds with templates of personal data, how often one of them is taken.
WITH_SOMEBODY = 0.25
# How many of a kind stand in a row, and how often: a window of the detector has some 120 tokens.
IN_A_ROW = {1: 50, 2: 16, 3: 10, 5: 14, 8: 10}
TWO_KINDS = 0.1
# As people write in chats, and how often.
SMALL_LETTERS = 0.12
PROSE = {"sentences", "instructions", "support", "words", "dates", "catalogue", "quotations"}
SENTENCE_START = re.compile(r"(?:^|[.!?]\s+|\n)[a-zà-ÿ]")


@dataclass(frozen=True)
class Template:
    """One template of a kind of text."""

    text: str
    names_somebody: bool


def plain_texts(count: int, seed: int, *, for_audits: bool) -> Iterator[str]:
    """Texts without personal data, the same for the same seed; those for audits are filled from
    templates and words that are never trained on."""
    plain = Plain(seed, for_audits=for_audits)
    for _ in range(count):
        yield plain.text(plain.kind(), with_somebody=False).text


def technical_texts(count: int, seed: int, *, for_audits: bool = False) -> Iterator[LabelledText]:
    """The same kinds of text, some of them with labelled personal data, some two in a row."""
    plain = Plain(seed, for_audits=for_audits)
    draw = plain.draw
    for _ in range(count):
        parts = [plain.some_text() for _ in range(2 if draw.random() < TWO_KINDS else 1)]
        yield joined(parts, draw.choice(("\n", "\n\n", " ")))


class Plain:
    """Draws texts of the kinds; see `plain_texts`."""

    def __init__(self, seed: int, *, for_audits: bool) -> None:
        self._values = Values(seed, for_audits=for_audits)
        self._words = Vocabulary(self._values, for_audits=for_audits)
        self._for_audits = for_audits
        self.draw = self._values.draw

    def kind(self) -> str:
        return self.draw.choices(list(KINDS), list(KINDS.values()))[0]

    def some_text(self) -> LabelledText:
        kind = self.kind()
        somebody = self.draw.random() < (0.5 if kind == "arithmetic" else WITH_SOMEBODY)
        return self.text(kind, with_somebody=somebody)

    def text(self, kind: str, *, with_somebody: bool) -> LabelledText:
        """One or several of a kind in a row, one of them with somebody if that is asked for and the
        kind has such templates."""
        count = self.draw.choices(list(IN_A_ROW), list(IN_A_ROW.values()))[0]
        somebody = self.draw.randrange(count) if with_somebody else None
        language = self.draw.choice(list(LANGUAGES))
        parts = [self._one(kind, language, number == somebody) for number in range(count)]
        text = joined(parts, self.draw.choice((" ", "\n") if kind in PROSE else ("\n", "\n\n")))
        if kind in PROSE and self.draw.random() < SMALL_LETTERS:
            return with_text(text, text.text.lower())
        return text

    def _one(self, kind: str, language: str, with_somebody: bool) -> LabelledText:
        file = f"{kind}_{language}" if kind == "sentences" else kind
        listed = plain_templates(file, for_audits=self._for_audits)
        fitting = [one for one in listed if one.names_somebody == with_somebody]
        template = self.draw.choice(fitting or listed).text
        self._values.country()
        self._words.language = language if kind in ("words", "quotations") else "en"
        template = with_numbers(choose(template, self.draw), self.draw)
        if kind == "arithmetic":
            return capitalized(fill_slots(template, _Recalled(self._words)))
        return fill_slots(template, self._words)


class _Recalled:
    """The same value each time that a slot comes again, so that a problem speaks of one person."""

    def __init__(self, words: Vocabulary) -> None:
        self.draw = words.draw
        self._words = words
        self._drawn: dict[str, str] = {}

    def value(self, slot: str) -> str:
        if slot not in self._drawn:
            self._drawn[slot] = self._words.value(slot)
        return self._drawn[slot]


@cache
def plain_templates(file: str, *, for_audits: bool) -> tuple[Template, ...]:
    """The templates of a file that are kept from training, or the others; a fifth of those with
    somebody, and of those with nobody, are kept."""
    folder = resources.files("tasks.scrub.synthetic.plain_kinds")
    text = folder.joinpath(f"{file}.txt").read_text(encoding="utf-8")
    if "\n%\n" in text:
        texts = [block.strip("\n") for block in text.split("\n%\n")]
    else:
        texts = [unescaped(line) for line in text.splitlines() if line]
    if file == "arithmetic":
        texts += [nobodys(one) for one in texts if "first_name" in one]
    found = [Template(one, names_somebody(one)) for one in dict.fromkeys(texts)]
    return tuple(
        template
        for somebody in (False, True)
        for template in by_share(
            [one for one in found if one.names_somebody == somebody],
            for_audits=for_audits,
            key=lambda one: one.text,
        )
    )


def names_somebody(template: str) -> bool:
    return any(slot in ENTITIES for slot in SLOT.findall(template))


def nobodys(template: str) -> str:
    """A problem about somebody as one about "the baker"."""
    for slot, other in (("other_first_name", "other_who"), ("first_name", "who")):
        template = template.replace(f"{{{{{slot}}}}}", f"{{{{{other}}}}}")
    return template


def capitalized(text: LabelledText) -> LabelledText:
    """Capitals at the starts of sentences."""
    return LabelledText(SENTENCE_START.sub(lambda m: m[0].upper(), text.text), text.labels)
