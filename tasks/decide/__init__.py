"""Decide: gates, and the verdict on a challenger."""

from tasks.decide.gates import DecideSettings, GateRule, default_gates
from tasks.decide.verdict import Decision, Gate, Verdict, decide

__all__ = [
    "DecideSettings",
    "Decision",
    "Gate",
    "GateRule",
    "Verdict",
    "decide",
    "default_gates",
]
