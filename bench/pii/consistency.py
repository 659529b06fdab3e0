"""Whether a name that is replaced once is replaced at its every mention in the conversation.

A mention is the whole name, or one word of it that is itself a name: whole words, in any case, also
with 's. A word that the conversations write in small letters forty times or more ("will", "may",
"rose") is a mention only with a capital letter within a sentence.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

from bench.pii.contenders import Spans
from bench.pii.score import share
from bench.pii.sets import conversations
from data_contracts.findings import Finding

WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
COMMON = 40
FEWEST_LETTERS = 3
MOST_TURNS = 40
BEGINS = re.compile(r"(?:^|[.!?:\n])[\s\"'(*]*$")
INTRODUCED = ("Hi, I am {name}.", "btw my name is {name}", "this is {name}, nice to meet you")
MENTIONED = (
    "{first}, are you still there?", "That is {first}'s idea.", "ok {small}, tell me more",
    "I'll ask {name} again tomorrow.", "What would {last} say?", "so {first} was right after all",
    "{upper} WAS HERE", "(thanks to {first})",
)  # fmt: skip


def real(count: int, seed: int) -> list[tuple[str, ...]]:
    """Held-out human conversations, those of at most MOST_TURNS turns."""
    from tasks.scrub.synthetic.chats import MEASURED_WITH

    held_out = [
        messages
        for number, messages in enumerate(conversations().values())
        if str(number).endswith(MEASURED_WITH) and 1 < len(messages) <= MOST_TURNS
    ]
    return random.Random(seed).sample(held_out, min(count, len(held_out)))


def invented(count: int, seed: int) -> list[tuple[str, ...]]:
    """Conversations in which held-out names are introduced once and mentioned three times."""
    from tasks.scrub.synthetic.values import Values

    values = Values(seed, for_audits=True)
    made = []
    for messages in real(count, seed + 1):
        values.country()
        first, last = values.value("first_name"), values.value("last_name")
        forms = {
            "first": first, "last": last, "name": f"{first} {last}", "small": first.lower(),
            "upper": first.upper(),
        }  # fmt: skip
        said = [values.draw.choice(INTRODUCED).format(**forms)]
        said += [form.format(**forms) for form in values.draw.sample(MENTIONED, 3)]
        turns = list(messages[:8])
        for number, text in enumerate(said):
            at = min(2 * number, len(turns) - 1)
            turns[at] = f"{turns[at]} {text}"
        made.append(tuple(turns))
    return made


def consistency(chats: Sequence[tuple[str, ...]], spans: Spans) -> dict[str, Any]:
    """Counts over conversations: names replaced, their further mentions, and those replaced.

    The first mention of a name that is replaced is not counted: by it the name is known.
    """
    counts = Counter[str]()
    for messages in chats:
        found = spans(messages, range(len(messages)))
        names = _names(messages, found)
        known: set[str] = set()
        for turn, text in enumerate(messages):
            hidden = {at for one in found[turn] for at in range(one.start, one.end)}
            for start, end in mentions(text, names):
                name, is_hidden = text[start:end].casefold(), hidden.issuperset(range(start, end))
                if is_hidden and name not in known:
                    known.add(name)
                    continue
                counts["mentions"] += 1
                counts["replaced"] += is_hidden
        counts["names"] += len(known)
    numbers = {name: counts[name] for name in ("names", "mentions", "replaced")}
    return {**numbers, "share": share(counts["replaced"], counts["mentions"])}


def _names(messages: Sequence[str], found: dict[int, Sequence[Finding]]) -> set[str]:
    """In small letters: each replaced name, and the words of it that are names too."""
    names: set[str] = set()
    for turn, spans in found.items():
        for one in spans:
            if one.entity == "PERSON":
                words = WORD.findall(messages[turn][one.start : one.end])
                names.update(word.casefold() for word in words if len(word) >= FEWEST_LETTERS)
    return names


def mentions(text: str, names: set[str]) -> list[tuple[int, int]]:
    """Where the names stand in a text, as whole words."""
    found = []
    for word in WORD.finditer(text):
        name = word[0].casefold()
        is_name = name not in common_words() or (
            word[0][0].isupper() and not BEGINS.search(text, 0, word.start())
        )
        if name in names and is_name:
            found.append(word.span())
    return found


@cache
def common_words() -> frozenset[str]:
    """What people write small at least COMMON times in the conversations."""
    small = Counter(
        word
        for messages in conversations().values()
        for text in messages
        for word in WORD.findall(text)
        if word.islower()
    )
    return frozenset(word for word, count in small.items() if count >= COMMON)
