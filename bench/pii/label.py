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
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.pii.sets import LABELS
from bench.pii.strata import STRATA, Turn, second_pass, stratum, text_of

SECOND = Path(__file__).with_name("chitchat_second_pass.json")
LETTERS = {
    "P": "PERSON", "L": "LOCATION", "O": "ORGANIZATION", "U": "USERNAME", "N": "PHONE_NUMBER",
    "E": "EMAIL_ADDRESS", "W": "URL", "B": "DATE_OF_BIRTH", "S": "SECRET", "I": "ID_NUMBER",
}  # fmt: skip


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
        head, _, rest = line.partition(" ")
        by_number[int(head)] = rest
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
