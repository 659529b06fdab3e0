"""A flow run that asks a person: `python -m tests.asking MODEL HOURS`. Prints what came of it."""

import json
import sys

from prefect import flow

from flows import approval
from tasks.decide.gates import Severity, Test
from tasks.decide.verdict import Decision, Gate, Verdict
from tasks.promote import PromoteSettings

REASON = (
    "better: loss on holdout -0.310 nats a token against the champion (95% interval -0.372 to"
    " -0.249, 120 items, p 0.0002), must be shown below +0.000"
)
WARNING = (
    "toxic answers: toxic on red team +0.031 against the champion (95% interval +0.012 to +0.055,"
    " 240 items, p 0.003), must not be shown above +0.000"
)


def gate(name: str, *, passed: bool = True, severity: Severity = "block", reason: str = "") -> Gate:
    test: Test = "superiority" if severity == "block" else "harm"
    return Gate(
        name=name,
        metric="loss",
        on="held-out",
        slice=None,
        test=test,
        severity=severity,
        status="passed" if passed else "failed",
        against="champion",
        items=120,
        margin=0.0,
        unit="nats a token",
        worse=1,
        reason=reason or name,
    )


def verdict(*gates: Gate, decision: Decision = "promote", bar: str = "champion") -> Verdict:
    return Verdict(
        decision=decision,
        bar=bar,
        gates=gates or (gate("held-out loss"),),
        reason=REASON,
    )


@flow(name="asking")
def asking(model: str, hours: float) -> tuple[approval.Approval, Verdict]:
    warned = gate("toxic answers", severity="warn", passed=False, reason=WARNING)
    judged = verdict(gate("better"), gate("answers as close"), warned)
    settings = PromoteSettings(approval="manual", approval_hours=hours)
    given = approval.ask(judged, "# What the challenger is like", settings, model=model)
    return given, approval.apply(judged, given)


if __name__ == "__main__":
    given, judged = asking(sys.argv[1], float(sys.argv[2]))
    print(
        json.dumps({"approval": given.model_dump(mode="json"), "verdict": judged.model_dump()}),
        flush=True,
    )
