"""Why a version is what it is: its documents and its history in plain words."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from tasks.decide import Gate, Verdict
from tasks.decide.verdict import number
from tasks.ledger.promotions import PromotionEntry
from tasks.lineage import Asked, Lineage, Made
from tasks.registry import Version

DECIDED = {"promote": "promoted", "keep": "not promoted", "unchanged": "champion already"}


def why(
    version: Version,
    lineage: Lineage,
    verdict: Verdict,
    history: Sequence[PromotionEntry] = (),
) -> str:
    """Some twenty lines for a person who asks why this version is (not) champion.

    Args:
        version: as it stands in the registry now.
        lineage: where it comes from.
        verdict: how it was judged.
        history: all promotions and rollbacks of the model, in any order.
    """
    return "\n".join(
        [
            *_origin(version, lineage),
            *_judgement(lineage, verdict),
            f"Cost: {cost(lineage)}.",
            *_since(version, history),
        ]
    )


def _origin(version: Version, lineage: Lineage) -> Iterator[str]:
    now = f", {' and '.join(version.aliases)} now" if version.aliases else ""
    yield f"Version {version.version} of {version.name!r}{now}: adapter {lineage.adapter[:16]}."
    yield f"Asked for by {asker(lineage.asked)} (request {lineage.asked.request})."
    yield f"Trained on {rows(lineage.train)}; judged by {rows(lineage.holdout)}."
    leak = lineage.scrub.leak
    yield "Of planted personal data, " + (
        f"{leak} survived the scrub." if leak else "nothing is known: the scrub was not audited."
    )
    yield f"Base model: {lineage.base.id} ({lineage.base.digest[:16]})."


def asker(asked: Asked) -> str:
    who = {
        "manual": "a person",
        "schedule": "its schedule",
        "drift": f"drift, episode {asked.episode}",
    }[asked.trigger]
    because = "" if asked.reason == f"started by {who}" else f": {asked.reason}"
    return f"{who} at {asked.at:%Y-%m-%d %H:%M UTC}{because}"


def rows(chain: Sequence[Made]) -> str:
    """How many conversations a snapshot holds, and what they are of those that came in."""
    made, first = chain[0], chain[-1]
    of = f" of {first.account.rows_in} rows" if len(chain) > 1 else ""
    return f"{made.account.rows_out} conversations{of} (snapshot {made.digest[:16]})"


def cost(lineage: Lineage) -> str:
    training, cost = lineage.training, lineage.cost
    money = f", {cost.money:.2f} at {cost.price_per_hour:g} an hour" if cost.price_per_hour else ""
    return (
        f"{cost.device_hours:.2f} device hours{money}; the whole run took {cost.seconds:.0f} s, the"
        f" training {training.seconds:.0f} s on {training.processes} x {training.device} for"
        f" {training.tokens} tokens"
    )


def _judgement(lineage: Lineage, verdict: Verdict) -> Iterator[str]:
    bar = (
        f"the champion, version {lineage.judged_against}"
        if verdict.bar == "champion"
        else "the base model, as there was no champion"
    )
    yield f"It had to beat {bar}."
    said = beyond_gates(verdict)
    if not said and verdict.decision == "promote":
        said = "approved by the gates alone"
    yield f"Decision: {DECIDED[verdict.decision]}{f'; {said}' if said else ''}."
    yield from _gates("Failed, which stops it", verdict.failed)
    yield from _gates("Failed, which is a warning", verdict.warnings)
    yield from _gates("Passed", [gate for gate in verdict.gates if gate.status == "passed"])
    unknown = [gate for gate in verdict.gates if gate.status == "not measured"]
    if unknown:
        yield "Not measured: " + ", ".join(dict.fromkeys(gate.name for gate in unknown)) + "."


def beyond_gates(verdict: Verdict) -> str:
    """What the verdict's reason says that is no gate's: who approved or rejected it."""
    rest = verdict.reason
    for gate in verdict.gates:
        rest = rest.replace(gate.reason, "")
    return rest.strip("; ")


def _gates(title: str, gates: Sequence[Gate]) -> Iterator[str]:
    """Under a title, one line for each rule, however many slices it has."""
    if gates:
        yield f"{title}:"
    for name, found in groupby(gates, key=lambda gate: gate.name):
        same = list(found)
        sliced = "; ".join(
            f"{gate.slice}: {measured(gate)}" if gate.slice else measured(gate) for gate in same
        )
        yield f"  - {name}, {had_to(same[0])}: {sliced}"


def measured(gate: Gate) -> str:
    """The gate's number with its interval and items, or why there is none."""
    if gate.value is None:
        return gate.reason.rpartition(": ")[2]
    interval = f"{number(gate.low)} to {number(gate.high)}"
    return f"{number(gate.value)} {gate.unit} ({interval}, {gate.items} items)"


def had_to(gate: Gate) -> str:
    """What the gate asks for."""
    if gate.metric == "exposure":
        return "canaries must not be shown to be learnt"
    better, worse = gate.sides
    must = {
        "superiority": f"must be shown {better}",
        "non-inferiority": f"must be shown not {worse}",
        "harm": f"must not be shown {worse}",
        "limit": f"must not be shown {worse}",
    }[gate.test]
    against = f" against the {gate.against}" if gate.against else ""
    return f"{gate.metric} on {gate.on} {must} {number(gate.bound)}{against}"


def _since(version: Version, history: Sequence[PromotionEntry]) -> Iterator[str]:
    concerns = [
        entry
        for entry in sorted(history, key=lambda entry: entry.id)
        if version.version in (entry.version, entry.before)
    ]
    if not concerns:
        yield "Since then: it was never champion."
        return
    yield "Since then:"
    for entry in concerns:
        yield f"  - {entry.at:%Y-%m-%d %H:%M UTC}: {happened(version, entry)}"


def happened(version: Version, entry: PromotionEntry) -> str:
    """What one entry of the history means to a version."""
    by = f"{entry.action} by {entry.by}"
    # The reason of a promotion is the verdict's, which stands above.
    because = f": {entry.reason}" if entry.action != "promote" or entry.state == "void" else ""
    if entry.state == "void":
        return f"version {entry.version} was to become champion, which was given up ({by}){because}"
    if entry.version == version.version:
        place = f" in place of version {entry.before}" if entry.before else ""
        return f"it became champion{place} ({by})" + because
    return f"version {entry.version} became champion in its place ({by})" + because
