"""How much of text without personal data a scrub destroys.

    python -m bench.pii.clean [--rows 2000] [--kinds logs,sql] [--peers stock,spaCy]
                              [--examples 10] [--no-detector] [--policy FILE] [--seed 2026]

`bench.pii.kinds` generates the texts or takes them from files of installed packages. It leaves out
a text from a file if a strict pattern finds anything in it that may point at a person: an e-mail or
web address, an author, a citation, initials, an IP address. For each kind the benchmark reports how
many rows change and the shares of characters, words and numbers that are replaced; for arithmetic
also how many final results stay. Names of the invented people in word problems do not count.
`--examples` shows the most frequently replaced strings. The last line is one JSON object.
"""

import argparse
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.pii.contenders import PEERS, Spans, contenders
from bench.pii.kinds import KINDS, Row
from data_contracts.findings import Finding
from data_contracts.policy import load_policy

WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
PROGRESS_SECONDS = 5


@dataclass
class Damage:
    """What a contender did to the rows of one kind."""

    counts: Counter[str] = field(default_factory=Counter)
    strings: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, row: Row, spans: dict[int, Sequence[Finding]]) -> None:
        self.counts["rows"] += 1
        changed = False
        for turn, text in enumerate(row.messages):
            hidden = {at for one in spans[turn] for at in range(one.start, one.end)}
            self.counts["characters"] += len(text)
            self.counts["characters_replaced"] += len(hidden)
            for name, pattern in (("words", WORD), ("numbers", NUMBER)):
                tokens = [t for t in pattern.finditer(text) if _counts(t[0], row)]
                lost = [t for t in tokens if not hidden.isdisjoint(range(*t.span()))]
                self.counts[name] += len(tokens)
                self.counts[f"{name}_replaced"] += len(lost)
                changed = changed or bool(lost)
            for one in spans[turn]:
                self.strings[one.entity, text[one.start : one.end]] += 1
        self.counts["rows_changed"] += changed
        if row.answer:
            last = len(row.messages) - 1
            start = len(row.messages[last]) - len(row.answer)
            self.counts["results"] += 1
            self.counts["results_intact"] += all(one.end <= start for one in spans[last])

    def summary(self) -> dict[str, Any]:
        shares = {
            f"{name}_replaced": self.counts[f"{name}_replaced"] / max(1, self.counts[name])
            for name in ("characters", "words", "numbers")
        }
        rows = {"rows": self.counts["rows"], "rows_changed": self.counts["rows_changed"]}
        if self.counts["results"]:
            shares["results_intact"] = self.counts["results_intact"] / self.counts["results"]
        sizes = {name: self.counts[name] for name in ("characters", "words", "numbers")}
        return {**rows, **shares, "sizes": sizes}


def _counts(token: str, row: Row) -> bool:
    return token.lower().removesuffix("'s") not in row.neutral


def sample(kind: str, count: int, seed: int) -> list[Row]:
    """Distinct rows of a kind, as many as asked for or as there are."""
    distinct: dict[tuple[str, ...], Row] = {}
    for row in KINDS[kind](random.Random(f"{kind}:{seed}")):
        distinct.setdefault(row.messages, row)
        if len(distinct) == count:
            break
    return list(distinct.values())


def measure(name: str, kind: str, rows: Sequence[Row], spans: Spans) -> Damage:
    damage, shown = Damage(), time.monotonic()
    for number, row in enumerate(rows):
        damage.add(row, spans(row.messages, range(len(row.messages))))
        if time.monotonic() - shown > PROGRESS_SECONDS:
            shown = time.monotonic()
            print(f"{name}, {kind}: {number + 1} of {len(rows)} rows", file=sys.stderr, flush=True)
    return damage


def lines(results: dict[str, dict[str, dict[str, Any]]]) -> Iterator[str]:
    """A Markdown table, a row for each kind and contender."""
    yield "| kind | | rows | rows changed | characters | words | numbers | results intact |"
    yield "|---" * 8 + "|"
    for kind, by_contender in results.items():
        for name, result in by_contender.items():
            intact = f"{result['results_intact']:.1%}" if "results_intact" in result else ""
            yield (
                f"| {kind} | {name} | {result['rows']:,}"
                f" | {result['rows_changed'] / max(1, result['rows']):.1%}"
                f" | {result['characters_replaced']:.2%} | {result['words_replaced']:.2%}"
                f" | {result['numbers_replaced']:.2%} | {intact} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000, help="of each kind")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--peers", default="stock", help=f"of {', '.join(PEERS)}; may be empty")
    parser.add_argument("--examples", type=int, default=0, help="replaced strings to show")
    parser.add_argument("--no-detector", action="store_true", help="Evergreen's patterns alone")
    parser.add_argument("--policy")
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    policy = load_policy(options.policy)
    if options.no_detector:
        policy = policy.model_copy(update={"detector": False})
    measured = contenders([name for name in options.peers.split(",") if name], policy)
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for kind in options.kinds.split(","):
        print(f"{kind}: taking rows", file=sys.stderr, flush=True)
        rows, results[kind] = sample(kind, options.rows, options.seed), {}
        for name, spans in measured.items():
            damage = measure(name, kind, rows, spans)
            results[kind][name] = damage.summary()
            for (entity, text), count in damage.strings.most_common(options.examples):
                print(f"{kind}, {name}: {count} times {entity} {text!r}", flush=True)
    print("\n".join(lines(results)))
    print(json.dumps({"policy": policy.digest, "detector": policy.detector, "kinds": results}))


if __name__ == "__main__":
    main()
