"""How much personal data is found, beside stock Presidio and other open detectors.

    python -m bench.pii [--sentences 3000] [--planted 4000] [--conversations 400] [--policy FILE]
                        [--peers stock,spaCy] [--sets generated,chitchat] [--no-detector]

The sets are in `bench.pii.sets`, what is counted in `bench.pii.score`. Chats are scrubbed as whole
conversations by Evergreen, as a user's are; the others are asked turn by turn. Then, whether names
that are replaced once are replaced throughout (`bench.pii.consistency`). What is destroyed of text
without personal data is measured by `bench.pii.clean`. The last line is one JSON object.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import psutil

from bench.pii.consistency import consistency, invented, real
from bench.pii.contenders import PEERS, Spans, contenders
from bench.pii.samples import Sample
from bench.pii.score import Score
from bench.pii.sets import sets
from data_contracts.policy import load_policy

PROGRESS_SECONDS = 5


def judge(name: str, samples: list[Sample], spans: Spans, names: dict[str, str]) -> dict[str, Any]:
    """The counts of a contender on a set; `strict` are those with general labels among them."""
    score, strict, shown = Score(names), Score(names), time.monotonic()
    for number, sample in enumerate(samples):
        found = spans(sample.messages, [sample.turn])[sample.turn]
        score.add(sample, found)
        strict.add(sample.strict(), found)
        if time.monotonic() - shown > PROGRESS_SECONDS:
            shown = time.monotonic()
            print(f"{name}: {number + 1} of {len(samples)}", file=sys.stderr, flush=True)
    summary = score.summary()
    if any(sample.general for sample in samples):
        summary["strict"] = strict.summary()
    return summary


def lines(title: str, results: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A Markdown table, one row an entity, two columns a contender."""
    first = next(iter(results.values()))
    yield f"\n{title}\n"
    heads = [f"{name} {what}" for name in results for what in ("recall", "precision")]
    yield f"| entity | spans | {' | '.join(heads)} |"
    yield "|---" * (2 + len(heads)) + "|"
    for entity, row in first["entities"].items():
        cells = (result["entities"][entity] for result in results.values())
        yield _row(entity, row["spans"], ((one["recall"], one["precision"]) for one in cells))
    totals = ((1 - one["not_covered"], one["precision"]) for one in results.values())
    yield _row("all", first["spans"], totals)
    for name, result in results.items():
        low, high = result["not_covered_95"]
        strict = result.get("strict")
        personal, others = (
            percent(result[f"{whose}_characters_covered"]) for whose in ("personal", "other")
        )
        yield (
            f"{name}: {result['not_covered']:.1%} of the spans not fully covered (95% interval"
            f" {low:.1%} to {high:.1%}); covered are {personal} of personal characters and"
            f" {others} of others"
            + (f"; {strict['not_covered']:.1%} of spans if general ones count" if strict else "")
        )


def _row(entity: str, spans: int, cells: Iterable[tuple[float | None, float | None]]) -> str:
    shown = " | ".join(percent(value) for pair in cells for value in pair)
    return f"| {entity} | {spans} | {shown} |"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def main() -> None:
    options = parse()
    policy = load_policy(options.policy)
    if options.no_detector:
        policy = policy.model_copy(update={"detector": False})
    measured = contenders([name for name in options.peers.split(",") if name], policy)
    results: dict[str, dict[str, Any]] = {}
    sizes: dict[str, int] = {}
    wanted = options.sets.split(",") if options.sets else None
    for title, samples_of, names in sets(options.sentences, options.planted, policy, options.seed):
        if wanted and title not in wanted:
            continue
        samples = samples_of()
        sizes[title] = len(samples)
        results[title] = {
            name: judge(f"{title}, {name}", samples, spans, names)
            for name, spans in measured.items()
        }
        print("\n".join(lines(title, results[title])), flush=True)
    consistent = {}
    for title, chats in (
        ("human conversations", real(options.conversations, options.seed)),
        ("with invented names", invented(options.conversations // 2, options.seed)),
    ):
        consistent[title] = {name: consistency(chats, spans) for name, spans in measured.items()}
        for name, counts in consistent[title].items():
            print(
                f"{title}, {name}: {percent(counts['share'])} of {counts['mentions']} further"
                f" mentions of {counts['names']} names are replaced",
                flush=True,
            )
    print(
        json.dumps(
            {
                "sizes": sizes,
                "policy": policy.digest,
                "results": results,
                "consistency": consistent,
                "machine": {"cpu": platform.machine(), "cores": psutil.cpu_count()},
            }
        )
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=int, default=3000, help="of the generator")
    parser.add_argument(
        "--planted", type=int, default=4000, help="texts of ours; half as many noisy ones,"
        " a quarter in each language",
    )  # fmt: skip
    parser.add_argument("--conversations", type=int, default=400, help="for consistency")
    parser.add_argument("--sets", default="", help="names of sets; empty for all")
    parser.add_argument("--peers", default="stock", help=f"of {', '.join(PEERS)}; may be empty")
    parser.add_argument("--no-detector", action="store_true", help="Evergreen's patterns alone")
    parser.add_argument("--policy")
    parser.add_argument("--seed", type=int, default=2026)
    return parser.parse_args()


if __name__ == "__main__":
    main()
