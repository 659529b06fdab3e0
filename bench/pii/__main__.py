"""How much personal data is found: beside stock Presidio with the small spaCy model.

    python -m bench.pii [--sentences 3000] [--planted 4000] [--policy FILE]

Three sets that the detector was never trained on:

- sentences of presidio-evaluator's generator: templates and names of others;
- our own held-out templates and values, for the kinds of data that the generator does not know;
- 300 messages of human conversations, labelled by hand (`chitchat_labels.json`: places, no text).

A span is covered if no letter or digit of it is outside all findings. Recall is the share of spans
that are covered, by whatever finding; precision of an entity is the share of its findings that
touch a span of that entity, overall precision of those that touch any span. The last line is one
JSON object.
"""

import argparse
import json
import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from bench.peers.presidio import stock
from data_contracts.findings import Finding, LabelledText
from data_contracts.policy import ScrubPolicy, load_policy
from data_contracts.workspace import Workspace

LABELS = Path(__file__).with_name("chitchat_labels.json")
# The generator's labels under our names. What is not here is not what the shipped policy looks
# for: titles (Dr.), ages, nationalities, and dates that are nobody's birthday.
NAMES = {
    "STREET_ADDRESS": "LOCATION",
    "GPE": "LOCATION",
    "ZIP_CODE": "LOCATION",
    "DOMAIN_NAME": "URL",
    **{
        name: name
        for name in (
            "PERSON", "ORGANIZATION", "PHONE_NUMBER", "EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE",
            "IP_ADDRESS", "US_SSN", "US_DRIVER_LICENSE",
        )
    },
}  # fmt: skip
STOCK_THRESHOLD = 0.4
Find = Callable[[str], Sequence[Finding]]


def generated(count: int, seed: int) -> list[LabelledText]:
    """Sentences of presidio-evaluator, labels as it names them."""
    from tasks.sources import pii_sentences

    return [
        LabelledText(
            sample.full_text,
            [
                Finding(span.start_position, span.end_position, span.entity_type)
                for span in sample.spans
            ],
        )
        for sample in pii_sentences(count, seed)
    ]


def planted(count: int, policy: ScrubPolicy, seed: int) -> list[LabelledText]:
    """Held-out templates with held-out values, alone, every entity as often as any other."""
    from tasks.scrub.audit import AuditSettings, plant

    return list(plant([""] * count, policy, AuditSettings(seed=seed)))


def chitchat() -> list[LabelledText]:
    """The messages that were labelled by hand."""
    from tasks.sources import chitchat_rows

    conversations = {row["id"]: row["messages"] for row in chitchat_rows()}
    return [
        LabelledText(
            conversations[row["conversation"]][row["turn"]]["content"],
            [Finding(*span) for span in row["spans"]],
        )
        for row in json.loads(LABELS.read_text(encoding="utf-8"))
    ]


def ours(policy: ScrubPolicy) -> Find:
    from flows.settings import load_settings
    from tasks.scrub.detector import built
    from tasks.scrub.engine import Scrubber

    def told(done: int, of: int) -> None:
        print(f"\rbuilding the detector, once: {done} of {of}", end="", file=sys.stderr)

    workspace = Workspace.current()
    workspace.create()
    detector = built(policy, load_settings(None).scrub.detector, workspace, told)
    return Scrubber(policy, Path(detector.path) if detector else None).find


def by_presidio(engine: Any) -> Find:
    def find(text: str) -> list[Finding]:
        return [
            Finding(result.start, result.end, result.entity_type, result.score)
            for result in engine.analyze(text, "en", score_threshold=STOCK_THRESHOLD)
        ]

    return find


class Score:
    """Counts over texts, by entity."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names
        self.spans, self.covered = Counter[str](), Counter[str]()
        self.others, self.others_covered = Counter[str](), Counter[str]()
        self.findings, self.right, self.touching = Counter[str](), Counter[str](), Counter[str]()

    def add(self, labelled: LabelledText, found: Sequence[Finding]) -> None:
        from tasks.scrub.engine import is_covered

        for label in labelled.labels:
            covered = is_covered(labelled.text, label.start, label.end, found)
            name = self.names.get(label.entity)
            spans, hidden = (
                (self.spans, self.covered) if name else (self.others, self.others_covered)
            )
            spans[name or label.entity] += 1
            hidden[name or label.entity] += covered
        for one in found:
            touched = [
                label.entity
                for label in labelled.labels
                if label.start < one.end and one.start < label.end
            ]
            scored = {self.names[entity] for entity in touched if entity in self.names}
            if one.entity not in self.names.values() or (touched and not scored):
                continue  # of a kind that is not scored here
            self.findings[one.entity] += 1
            self.touching[one.entity] += bool(scored)
            self.right[one.entity] += one.entity in scored

    def summary(self) -> dict[str, Any]:
        from scipy.stats import binomtest

        spans, covered = self.spans.total(), self.covered.total()
        low, high = binomtest(spans - covered, spans).proportion_ci(method="wilson")
        every = spans + self.others.total()
        every_covered = covered + self.others_covered.total()
        return {
            "spans": spans,
            "not_covered": 1 - covered / spans,
            "not_covered_95": [low, high],
            "not_covered_with_the_unscored": 1 - every_covered / every,
            "precision": share(self.touching.total(), self.findings.total()),
            "precision_same_entity": share(self.right.total(), self.findings.total()),
            "entities": {
                name: {
                    "spans": count,
                    "recall": share(self.covered[name], count),
                    "precision": share(self.right[name], self.findings[name]),
                }
                for name, count in self.spans.most_common()
            },
            "unscored": {
                name: {"spans": count, "covered": share(self.others_covered[name], count)}
                for name, count in self.others.most_common()
            },
        }


def share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def judged(texts: Iterable[LabelledText], find: Find, names: dict[str, str]) -> dict[str, Any]:
    score = Score(names)
    for labelled in texts:
        score.add(labelled, find(labelled.text))
    return score.summary()


def lines(title: str, results: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A Markdown table, one row an entity, two columns a contender."""
    first = next(iter(results.values()))
    yield f"\n{title}\n"
    heads = [f"{name} {what}" for name in results for what in ("recall", "precision")]
    yield f"| entity | spans | {' | '.join(heads)} |"
    yield "|---" * (2 + len(heads)) + "|"
    for entity, row in first["entities"].items():
        cells = [
            percent(result["entities"][entity][what])
            for result in results.values()
            for what in ("recall", "precision")
        ]
        yield f"| {entity} | {row['spans']} | {' | '.join(cells)} |"
    cells = [
        cell
        for result in results.values()
        for cell in (percent(1 - result["not_covered"]), percent(result["precision"]))
    ]
    yield f"| all | {first['spans']} | {' | '.join(cells)} |"
    for name, result in results.items():
        low, high = result["not_covered_95"]
        yield (
            f"{name}: {result['not_covered']:.1%} of the spans not fully covered"
            f" (95% interval {low:.1%} to {high:.1%})"
        )


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=int, default=3000)
    parser.add_argument("--planted", type=int, default=4000)
    parser.add_argument("--policy")
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    policy = load_policy(options.policy)
    peer = by_presidio(stock())  # before what is ours, see there
    finders = {"Evergreen": ours(policy), "stock": peer}
    kinds = {entity: entity for entity in policy.entities}
    sets = {
        "generated": (generated(options.sentences, options.seed), NAMES),
        "planted": (planted(options.planted, policy, options.seed), kinds),
        "chitchat": (chitchat(), kinds),
    }
    results: dict[str, dict[str, Any]] = {}
    for title, (texts, names) in sets.items():
        results[title] = {name: judged(texts, find, names) for name, find in finders.items()}
        print("\n".join(lines(title, results[title])), flush=True)
    both = results["generated"]
    print(
        json.dumps(
            {
                "ratios": {
                    "not_covered": both["Evergreen"]["not_covered"] / both["stock"]["not_covered"],
                },
                "sizes": {title: len(texts) for title, (texts, _) in sets.items()},
                "policy": policy.digest,
                "results": results,
                "machine": {"cpu": platform.machine(), "cores": psutil.cpu_count()},
            }
        )
    )


if __name__ == "__main__":
    main()
