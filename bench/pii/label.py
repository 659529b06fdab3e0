"""Labels turns of human conversations by hand, as `LABELLING.md` says.

    python -m bench.pii.label show random 0 150        prints turns 0 to 149 of a stratum
    python -m bench.pii.label add random 0 150 FILE    takes what was marked in them
    python -m bench.pii.label agree                    compares the two passes

FILE has a line for each turn with anything in it: `17 P Ann Lee; L Utah; L? Italy; O BYU#2`. A
letter is an entity, `?` says that it is general, `#2` that only the second place is meant; without
it every place where the words stand alone is. `--second` shows or takes the second pass. Only
places and entities are written to the repository, never text.
"""

import argparse
import json
import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from bench.pii.sets import LABELS, conversations
from tasks.scrub.synthetic.chats import MEASURED_WITH

SECOND = Path(__file__).with_name("chitchat_second_pass.json")
LETTERS = {
    "P": "PERSON", "L": "LOCATION", "O": "ORGANIZATION", "U": "USERNAME", "N": "PHONE_NUMBER",
    "E": "EMAIL_ADDRESS", "W": "URL", "B": "DATE_OF_BIRTH", "S": "SECRET", "I": "ID_NUMBER",
}  # fmt: skip
STRATA = ("random", "enriched")
# Turns of `random` at most; none of them is among the enriched.
BY_CHANCE = 1500
SECOND_PASS = 320
SEED = 19
# Words before which people name themselves, others and places, and what may be such a name.
NAMES_SOMETHING = re.compile(
    r"\b(?:[Hh]i|[Hh]ey|[Hh]ello|[Tt]hanks|[Bb]ye|I'm|I am|[Ii]m|in|to|at|near|with|and|or|of|by"
    r"|for|brother|sister|husband|wife|friends?|cousin|roommate|professor|is|was|met|know),?"
    r" (?!I\b|I'|Ok\b|OK|TV|LOL|Lol|Haha|Have|How|What|The|It|Im|That|God|American|English)"
    r"[A-Z][a-z]+"
    r"|\b(?:name is|names? are|named|name's|call(?:ed)? me|live in|lived in|from|born in|moved to"
    r"|work(?:ed)? at|work(?:ed)? for|grew up in|mission in|go to) (?!the\b|my\b|a\b|that\b)[a-z]",
)  # fmt: skip
LONGEST = 300


Turn = tuple[str, int]


@cache
def stratum(name: str) -> list[Turn]:
    """The turns of a stratum, in the order in which they are labelled: (conversation, turn).

    Conversations that the detector is trained with are left out. `random` is drawn from all turns
    alike; `enriched` are, in any order, the shorter ones among the others in which something seems
    to be named.
    """
    held_out = [
        (conversation, turn)
        for number, (conversation, messages) in enumerate(conversations().items())
        if str(number).endswith(MEASURED_WITH)
        for turn in range(len(messages))
    ]
    draw = random.Random(SEED)
    by_chance = draw.sample(held_out, BY_CHANCE)
    if name == "random":
        return by_chance
    taken = set(by_chance)
    naming = [
        at
        for at in held_out
        if at not in taken and len(text_of(at)) <= LONGEST and NAMES_SOMETHING.search(text_of(at))
    ]
    return draw.sample(naming, len(naming))


def second_pass() -> list[Turn]:
    """Turns of `random` that are labelled twice, in another order."""
    return random.Random(SEED + 1).sample(stratum("random"), SECOND_PASS)


def text_of(at: Turn) -> str:
    conversation, turn = at
    return conversations()[conversation][turn]


def show(turns: list[Turn], start: int, count: int) -> Iterator[str]:
    for number, at in enumerate(turns[start : start + count], start):
        yield f"{number}\t{text_of(at)}".replace("\n", " / ")


def marked(text: str, marks: str) -> dict[str, list[list[Any]]]:
    """The places of what was marked in a text.

    Raises:
        ValueError: a mark's words do not stand in the text.
    """
    places: dict[str, list[list[Any]]] = {"spans": [], "general": []}
    for mark in filter(None, (part.strip() for part in marks.split(";"))):
        letter, _, words = mark.partition(" ")
        words, _, only = words.partition("#")
        pattern = r"(?<!\w)" + re.escape(words).replace("/", r"\n") + r"(?!\w)"
        found = [match.span() for match in re.finditer(pattern, text)]
        if not found:
            raise ValueError(f"{words!r} is not in {text!r}")
        kind = "general" if letter.endswith("?") else "spans"
        for start, end in found if not only else [found[int(only) - 1]]:
            places[kind].append([start, end, LETTERS[letter.rstrip("?")]])
    return {kind: sorted(spans) for kind, spans in places.items()}


def add(file: Path, name: str, turns: list[Turn], marks: list[str], start: int) -> int:
    """Write the labels of some turns, in the place of earlier ones; their spans are returned."""
    by_number = {}
    for line in filter(None, map(str.strip, marks)):
        number, _, rest = line.partition(" ")
        by_number[int(number)] = rest
    rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    kept = {(row["conversation"], row["turn"]): row for row in rows}
    spans = 0
    for number, at in enumerate(turns, start):
        places = marked(text_of(at), by_number.pop(number, ""))
        spans += len(places["spans"])
        kept[at] = {"conversation": at[0], "turn": at[1], "stratum": name, **places}
    if by_number:
        raise ValueError(f"not among the turns: {sorted(by_number)}")
    written = ",\n".join(json.dumps(row) for row in kept.values())
    file.write_text(f"[\n{written}\n]\n", encoding="utf-8")
    return spans


def agreement() -> dict[str, Any]:
    """How much the two passes differ on the turns that both have: by span, and by turn."""
    passes = []
    for file in (LABELS, SECOND):
        rows = json.loads(file.read_text(encoding="utf-8"))
        passes.append({(row["conversation"], row["turn"]): row for row in rows})
    first, second = passes
    both = first.keys() & second.keys()
    counts = {"turns": len(both), "turns_that_differ": 0}
    for kind in ("spans", "general"):
        one = {(at, *span) for at in both for span in first[at][kind]}
        other = {(at, *span) for at in both for span in second[at][kind]}
        counts |= {f"{kind}_in_both": len(one & other), f"{kind}_in_one": len(one ^ other)}
    counts["turns_that_differ"] = sum(
        any(first[at][kind] != second[at][kind] for kind in ("spans", "general")) for at in both
    )
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("show", "add", "agree"))
    parser.add_argument("stratum", nargs="?", choices=STRATA, default="random")
    parser.add_argument("start", nargs="?", type=int, default=0)
    parser.add_argument("count", nargs="?", type=int, default=150)
    parser.add_argument("marks", nargs="?", type=Path)
    parser.add_argument("--second", action="store_true", help="the second pass")
    options = parser.parse_args()
    if options.what == "agree":
        print(json.dumps(agreement()))
        return
    turns = second_pass() if options.second else stratum(options.stratum)
    if options.what == "show":
        print("\n".join(show(turns, options.start, options.count)))
        return
    chosen = turns[options.start : options.start + options.count]
    marks = options.marks.read_text(encoding="utf-8").splitlines()
    file = SECOND if options.second else LABELS
    print(add(file, options.stratum, chosen, marks, options.start), "spans")


if __name__ == "__main__":
    main()
