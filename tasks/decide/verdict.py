"""The verdict: every gate with its numbers, and whether the challenger becomes champion."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from models.exposure import chance
from tasks.decide.gates import DecideSettings, GateRule, Severity, Test
from tasks.decide.paired import Paired
from tasks.evaluate.measures import METRICS, Evaluation, Measures, MetricName, ModelScore, mean
from tasks.holm import weighted_holm

Decision = Literal["promote", "keep", "unchanged"]
Status = Literal["passed", "failed", "not measured"]

DIMENSIONS = ("source", "data", "length", "language", "topic")


class Gate(BaseModel):
    """One rule with the numbers it was judged by.

    `value` is the challenger's metric less the other's (of a limit, the challenger's alone),
    `worse` the sign of a change for the worse; `detectable` the difference from the margin that
    as many such items show with the stated power, `needed` the items that show the one seen.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    metric: MetricName
    on: str
    slice: str | None
    test: Test
    severity: Severity
    status: Status
    against: str
    items: int
    margin: float
    unit: str
    worse: Literal[1, -1]
    challenger: float | None = None
    other: float | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    adjusted: float | None = Field(default=None, description="For all alarms of the verdict.")
    detectable: float | None = None
    needed: int | None = None
    reason: str

    @property
    def passed(self) -> bool:
        """What could not be measured does not fail; evidence that is missing does."""
        return self.status != "failed"

    @property
    def label(self) -> str:
        return f"{self.name} ({self.slice})" if self.slice else self.name

    @property
    def bound(self) -> float:
        """The margin as a value of the gate's axis."""
        if self.test == "limit":
            return self.margin
        return self.worse * self.margin * (-1 if self.test == "superiority" else 1)

    @property
    def sides(self) -> tuple[str, str]:
        """(where better values lie, where worse ones)."""
        return ("below", "above") if self.worse == 1 else ("above", "below")

    @property
    def deciding_p(self) -> float | None:
        """The p-value that decides: of an alarm the adjusted one."""
        return self.p_value if self.adjusted is None else self.adjusted


class Verdict(BaseModel):
    """The decision about one challenger and why."""

    model_config = ConfigDict(frozen=True)

    decision: Decision
    bar: str
    gates: tuple[Gate, ...]
    reason: str
    confidence: float = 0.95
    power: float = 0.8

    @property
    def failed(self) -> list[Gate]:
        """The gates that stop the promotion."""
        return [gate for gate in self.gates if not gate.passed and gate.severity == "block"]

    @property
    def warnings(self) -> list[Gate]:
        return [gate for gate in self.gates if not gate.passed and gate.severity == "warn"]


@dataclass(frozen=True)
class _Case:
    """A rule on the items that it is about."""

    rule: GateRule
    slice: str | None
    against: str
    mine: Measures
    theirs: Measures | None

    @property
    def is_alarm(self) -> bool:
        """Of the family whose chance of a false alarm is kept. What a judge or people prefer is
        asked for on its own, and stands on its own."""
        return not (self.rule.is_evidence or METRICS[self.rule.metric].pairwise)

    @property
    def worse(self) -> Literal[1, -1]:
        return 1 if METRICS[self.rule.metric].better == "lower" else -1

    def harm(self) -> tuple[np.ndarray, np.ndarray]:
        """(how much worse the challenger is, weight), each [items].

        Raises:
            ValueError: the two models were not measured on the same items.
        """
        if self.theirs is None:
            theirs = np.zeros(len(self.mine))
        elif [(one.id, one.weight) for one in self.mine] == [
            (one.id, one.weight) for one in self.theirs
        ]:
            theirs = np.array([one.total for one in self.theirs])
        else:
            raise ValueError("the two models were not measured on the same items")
        mine = np.array([one.total for one in self.mine])
        return self.worse * (mine - theirs), np.array([one.weight for one in self.mine])


def decide(
    evaluation: Evaluation,
    settings: DecideSettings,
    *,
    is_champion: bool = False,
    taken_back: str | None = None,
) -> Verdict:
    """Judge the challenger.

    Args:
        evaluation: the same items measured of challenger, champion and base.
        settings: the gates and their confidence.
        is_champion: the challenger is the very adapter that is champion already.
        taken_back: the version that is the very same adapter and that a rollback took down.

    Raises:
        ValueError: two models were not measured on the same items.
    """
    bar, _ = evaluation.bar
    if is_champion or taken_back is not None:
        return Verdict(
            decision="unchanged" if is_champion else "keep",
            bar=bar,
            gates=(),
            reason="the same data, base and recipe gave the adapter that is champion already"
            if is_champion
            else f"the same data, base and recipe gave version {taken_back}, which was rolled back",
        )
    gates = _judge([case for rule in settings.gates for case in cases(rule, evaluation)], settings)
    failed = [gate for gate in gates if not gate.passed and gate.severity == "block"]
    evidence = [gate for gate in gates if gate.test == "superiority" and gate.status == "passed"]
    promote = bool(evidence) and not failed
    reasons = failed or evidence
    return Verdict(
        decision="promote" if promote else "keep",
        bar=bar,
        gates=tuple(gates),
        reason="; ".join(gate.reason for gate in reasons) or "nothing shows that it is better",
        confidence=settings.confidence,
        power=settings.power,
    )


def cases(rule: GateRule, evaluation: Evaluation) -> Iterator[_Case]:
    """The rule, or one for each slice of its set."""
    if rule.when == ("regular" if evaluation.after_drift else "drift"):
        return
    bar, other = evaluation.bar if rule.against == "bar" else ("base", evaluation.base)
    mine, theirs = _measures(rule, evaluation, other)
    for name in _slices(mine, evaluation) if rule.slice == "each" else [rule.slice]:
        yield _Case(
            rule,
            name,
            "" if rule.test == "limit" else bar,
            _only(mine, name, evaluation),
            None if theirs is None else _only(theirs, name, evaluation),
        )


def _slices(measures: Measures, evaluation: Evaluation) -> list[str | None]:
    """The slices that these items are in."""
    found = {
        (DIMENSIONS.index(dimension), f"{dimension}={value}")
        for one in measures
        for dimension, value in evaluation.slices.get(one.id, {}).items()
    }
    return [name for _, name in sorted(found)]


def _measures(
    rule: GateRule, evaluation: Evaluation, other: ModelScore
) -> tuple[Measures, Measures | None]:
    if METRICS[rule.metric].pairwise:
        return evaluation.pairwise.get(rule.metric, ()), None
    mine = evaluation.challenger.of(rule.on, rule.metric)
    return mine, None if rule.test == "limit" else other.of(rule.on, rule.metric)


def _only(measures: Measures, name: str | None, evaluation: Evaluation) -> Measures:
    if name is None:
        return measures
    dimension, _, value = name.partition("=")
    return tuple(
        one for one in measures if evaluation.slices.get(one.id, {}).get(dimension) == value
    )


def _judge(found: Sequence[_Case], settings: DecideSettings) -> list[Gate]:
    gates = [_measured(case, settings) for case in found]
    alarms = [
        index
        for index, (case, gate) in enumerate(zip(found, gates, strict=True))
        if case.is_alarm and gate.p_value is not None
    ]
    adjusted = dict(
        zip(alarms, weighted_holm([gates[i].p_value or 0.0 for i in alarms]), strict=True)
    )
    return [
        _closed(case, gate, adjusted.get(index), settings)
        for index, (case, gate) in enumerate(zip(found, gates, strict=True))
    ]


def _measured(case: _Case, settings: DecideSettings) -> Gate:
    """The gate with its numbers; whether it passes may hang on the other gates."""
    rule, sign = case.rule, case.worse
    gate = Gate(
        name=rule.name,
        metric=rule.metric,
        on=rule.on,
        slice=case.slice,
        test=rule.test,
        severity=rule.severity,
        status="not measured",
        against=case.against,
        items=len(case.mine),
        margin=rule.margin,
        unit=METRICS[rule.metric].unit,
        worse=sign,
        reason="",
    )
    harm, weight = case.harm()
    if not len(weight) or (len(weight) < settings.min_items and rule.metric != "exposure"):
        return gate
    paired = Paired(harm, weight, settings.resamples, settings.seed)
    low, high = sorted(sign * end for end in paired.interval(settings.confidence))
    level = (1 - settings.confidence) / (2 if rule.is_evidence else 1)
    p_values = {
        "superiority": lambda: paired.p_below(-rule.margin),
        "non-inferiority": lambda: paired.p_below(rule.margin),
        "harm": lambda: paired.p_above(rule.margin),
        "limit": lambda: _beyond(case, paired, harm),
    }
    seen = sign * gate.bound - paired.value
    return gate.model_copy(
        update={
            "needed": paired.items_needed(seen, level, settings.power)
            if rule.is_evidence and seen > 0
            else None,
            "challenger": mean(case.mine) if case.theirs is not None else None,
            "other": mean(case.theirs) if case.theirs is not None else None,
            "value": sign * paired.value,
            "low": low,
            "high": high,
            "p_value": p_values[rule.test](),
            "detectable": paired.detectable(level, settings.power),
        }
    )


def _beyond(case: _Case, paired: Paired, harm: np.ndarray) -> float:
    """How likely the challenger's numbers or worse ones are if it is within the limit."""
    from scipy.stats import binomtest

    if case.rule.metric == "exposure":
        return chance(float(harm.sum()), len(harm))
    if set(np.abs(harm)) <= {0.0, 1.0} and case.worse == 1:
        within = min(1.0, case.rule.margin)
        return float(binomtest(int(harm.sum()), len(harm), within, "greater").pvalue)
    return paired.p_above(case.worse * case.rule.margin)


def _closed(case: _Case, gate: Gate, adjusted: float | None, settings: DecideSettings) -> Gate:
    rule = case.rule
    if gate.p_value is None:
        missing = gate.items == 0
        why = (
            "not measured"
            if missing
            else f"{gate.items} items are too few to tell (decide.min_items is"
            f" {settings.min_items})"
        )
        status: Status = "failed" if rule.is_evidence and not missing else "not measured"
        return gate.model_copy(update={"status": status, "reason": f"{_title(gate)}: {why}"})
    if rule.is_evidence:
        passed = gate.p_value <= (1 - settings.confidence) / 2
    else:
        passed = (gate.p_value if adjusted is None else adjusted) > 1 - settings.confidence
    closed = gate.model_copy(
        update={"status": "passed" if passed else "failed", "adjusted": adjusted}
    )
    return closed.model_copy(update={"reason": _sentence(closed, settings)})


def _title(gate: Gate) -> str:
    return gate.label if gate.test == "harm" else gate.name


def _sentence(gate: Gate, settings: DecideSettings) -> str:
    value = gate.value or 0.0
    p_value = gate.deciding_p
    if gate.metric == "exposure":
        seen = "is" if gate.status == "failed" else "is not"
        return (
            f"{gate.name}: {value:.2f} bits over {gate.items} canaries (1.44 if never seen),"
            f" which {seen} shown to be more than chance (p {p_value:.2g})"
        )
    what = f"{gate.metric} on {gate.on}" + (f", {gate.slice}" if gate.slice else "")
    interval = f"{settings.confidence:.0%} interval {gate.low:+.3f} to {gate.high:+.3f}"
    against = f" against the {gate.against}" if gate.against else ""
    better, worse = gate.sides
    bound = number(gate.bound)
    wanted = {
        "superiority": f"must be shown {better} {bound}",
        "non-inferiority": f"must not be {worse} {bound}",
        "harm": f"must not be shown {worse} {bound}",
        "limit": f"must not be shown {worse} {gate.margin:g}",
    }[gate.test]
    more = (
        f"; about {gate.needed:,} items would show this difference"
        if gate.status == "failed" and gate.needed is not None and gate.needed > gate.items
        else ""
    )
    return (
        f"{gate.name}: {what} {value:+.3f} {gate.unit}{against} ({interval},"
        f" {gate.items} items, p {p_value:.2g}), {wanted}{more}"
    )


def number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    shown = f"{value:+.3f}" if abs(value) < 100 else f"{value:+.0f}"
    return "0" if float(shown) == 0 else shown


def with_review(
    evaluation: Evaluation, reviewed: Measures, settings: DecideSettings, before: Verdict
) -> Verdict:
    """The verdict with what reviewers said of the same answers.

    What was kept out before, by a gate, a person or a rollback, stays out.
    """
    pairwise: dict[MetricName, Measures] = {**evaluation.pairwise, "reviewed": reviewed}
    found = decide(evaluation.model_copy(update={"pairwise": pairwise}), settings)
    if before.decision == "promote" or found.decision == "keep":
        return found
    return found.model_copy(update={"decision": before.decision, "reason": before.reason})
