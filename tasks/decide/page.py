"""The verdict as a page: every gate with its interval drawn beside what it had to show."""

import math
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import groupby
from typing import Any

from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure
from pydantic import BaseModel

from tasks.decide.verdict import Gate, Verdict, number
from tasks.evaluate.measures import METRICS, Evaluation, mean
from tasks.pictures import as_base64

HEADLINES = {
    "promote": "Promoted",
    "keep": "Not promoted",
    "unchanged": "Unchanged",
}
SHOWN_SAMPLES = 5


class Bar(BaseModel):
    """An interval drawn on a line from 0 to 100."""

    zero: float
    margin: float
    low: float
    high: float
    value: float
    # The side of the margin on which the gate passes.
    good_from: float
    good_to: float


def page(verdict: Verdict, evaluation: Evaluation, facts: Mapping[str, str]) -> str:
    """One HTML file with everything in it; sample answers if the evaluation has any.

    Args:
        facts: what else a reader wants to know of the run, in order.
    """
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        resources.files("tasks.decide").joinpath("page.html.j2").read_text("utf-8")
    )
    bar_name, bar = evaluation.bar
    theirs = {sample.id: sample.answer for sample in bar.samples}
    return template.render(
        headline=HEADLINES[verdict.decision],
        verdict=verdict,
        groups=grouped(verdict.gates),
        bar_of=interval_bar,
        number=number,
        models=model_rows(evaluation),
        facts=facts,
        scatter=as_base64(_scatter(evaluation)) if evaluation.challenger.items else None,
        bar_name=bar_name,
        samples=[
            (sample, theirs.get(sample.id, ""))
            for sample in evaluation.challenger.samples[:SHOWN_SAMPLES]
        ],
    )


def grouped(gates: Sequence[Gate]) -> list[tuple[str, list[Gate]]]:
    """Gates under headings: what stopped it, what warns, what passed, what was not measured."""

    def heading(gate: Gate) -> int:
        if gate.status == "not measured":
            return 3
        return 2 if gate.passed else 0 if gate.severity == "block" else 1

    titles = ("Stops the promotion", "Warns", "Passed", "Not measured")
    ranked = sorted(gates, key=heading)
    return [(titles[place], list(part)) for place, part in groupby(ranked, key=heading)]


def interval_bar(gate: Gate) -> Bar | None:
    """Where interval, zero and margin lie; None of gates without an interval."""
    if gate.value is None or gate.low is None or gate.high is None:
        return None
    if not (math.isfinite(gate.low) and math.isfinite(gate.high)):
        return None
    margin = gate.bound
    ends = [0.0, margin, gate.low, gate.high]
    room = (max(ends) - min(ends)) * 0.08 or 1.0
    left, right = min(ends) - room, max(ends) + room

    def at(value: float) -> float:
        return 100 * (value - left) / (right - left)

    below = gate.worse == 1  # smaller is better: what passes lies below the margin
    return Bar(
        zero=at(0.0),
        margin=at(margin),
        low=at(gate.low),
        high=at(gate.high),
        value=at(gate.value),
        good_from=0.0 if below else at(margin),
        good_to=at(margin) if below else 100.0,
    )


def model_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """A row for each set and metric, a column for each model."""
    return [
        {
            "set": name,
            "metric": f"{metric} ({METRICS[metric].unit})",
            "items": len(measures),
            **{
                role: f"{mean(found):.3f}" if (found := score.of(name, metric)) else "-"
                for role, score in evaluation.scores.items()
            },
        }
        for name, metrics in evaluation.challenger.measures.items()
        for metric, measures in metrics.items()
    ]


def _scatter(evaluation: Evaluation) -> Figure:
    """Each held-out conversation's loss, the challenger's above the bar's."""
    name, bar = evaluation.bar
    theirs = {one.id: one.total / one.weight for one in bar.of("holdout", "loss")}
    points = [
        (theirs[one.id], one.total / one.weight)
        for one in evaluation.challenger.of("holdout", "loss")
        if one.id in theirs
    ]
    figure = Figure(figsize=(5, 4.4), layout="constrained")
    axes = figure.subplots()
    ends = [min(min(p) for p in points), max(max(p) for p in points)]
    axes.plot(ends, ends, color="#888", linewidth=1)
    better = [point for point in points if point[1] < point[0]]
    worse = [point for point in points if point[1] >= point[0]]
    for part, colour, label in (
        (better, "#2a7f4f", f"better than the {name}: {len(better)}"),
        (worse, "#d9730d", f"not better: {len(worse)}"),
    ):
        if part:
            axes.plot(*zip(*part, strict=True), "o", color=colour, alpha=0.6, label=label)
    axes.set(xlabel=f"{name}, nats a token", ylabel="challenger, nats a token")
    axes.legend(frameon=False)
    axes.grid(alpha=0.2)
    return figure


def forest(verdict: Verdict) -> Figure:
    """Every gate that has an interval: where it lies, and (green) where the gate passes."""
    drawn = [(gate, bar) for gate in verdict.gates if (bar := interval_bar(gate)) is not None]
    figure = Figure(figsize=(9, 0.6 + 0.34 * len(drawn)), layout="constrained")
    axes = figure.subplots()
    for place, (gate, bar) in enumerate(drawn):
        colour = "#2a7f4f" if gate.passed else "#d9730d"
        axes.barh(
            place, bar.good_to - bar.good_from, 0.8, bar.good_from, color="#2a7f4f", alpha=0.13
        )
        axes.vlines(bar.zero, place - 0.4, place + 0.4, color="#888", linestyle=":", linewidth=1)
        axes.hlines(place, bar.low, bar.high, color=colour, linewidth=2.5)
        axes.plot(bar.value, place, "|", color=colour, markersize=11, markeredgewidth=3)
        text = f"{number(gate.value)}  ({number(gate.low)} to {number(gate.high)}) {gate.unit}"
        axes.text(102, place, text, va="center", fontsize=8)
    axes.set_yticks(range(len(drawn)), [gate.label for gate, _ in drawn], fontsize=8)
    axes.set(xlim=(0, 100), xticks=[])
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    headline = HEADLINES[verdict.decision]
    axes.set_title(f"{headline}: {verdict.confidence:.0%} intervals against the {verdict.bar}")
    return figure
