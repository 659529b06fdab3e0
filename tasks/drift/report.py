"""The drift report: one page with plots for people, Markdown for the Prefect UI."""

from collections import Counter
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment
from matplotlib.figure import Figure

from tasks.drift.compare import Comparison, Evidence, Side, TestResult
from tasks.drift.features import Features, Numbers, Vectors
from tasks.markdown import table
from tasks.pictures import as_base64

TEMPLATE = "report.html.j2"
REFERENCE, CURRENT = "#7a8ca3", "#d9730d"
MAP_POINTS = 600
SHOWN_CHARACTERS = 300
PLOTTED = {
    "question length": "words in a question",
    "answer length": "words in an answer",
    "loss": "champion's loss, nats a token",
    "feedback": "feedback",
}


def page(evidence: Evidence, about: Mapping[str, str]) -> str:
    """One self-contained HTML page.

    Args:
        evidence: the comparison and what it was made from.
        about: facts of the window: {name: value}.
    """
    template = resources.files("tasks.drift").joinpath(TEMPLATE).read_text("utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(
        comparison=evidence.comparison,
        about=about,
        tests=test_rows(evidence.comparison),
        examples=[_short(example.text) for example in evidence.comparison.examples],
        headline=headline(evidence.comparison),
        plots=_plots(evidence) if evidence.comparison.tests else {},
    )


def _plots(evidence: Evidence) -> dict[str, str]:
    return {
        "Users' messages, as the sentence encoder sees them": _map(evidence),
        "The tests' statistics, and what chance alone would give": _nulls(evidence),
        "What changed": _shifts(evidence),
    }


def markdown(comparison: Comparison, about: Mapping[str, str]) -> str:
    """The same facts without plots, and without a word of any conversation: Prefect keeps what it
    is given, the page is deleted with its window."""
    parts = [
        f"# {headline(comparison)}",
        comparison.reason[:1].upper() + comparison.reason[1:] + ".",
        table([{"": name, " ": value} for name, value in about.items()]),
        *(["## Tests", table(test_rows(comparison))] if comparison.tests else []),
        *(f"Not tested: {name} ({why})." for name, why in comparison.not_tested.items()),
    ]
    return "\n\n".join(parts)


def headline(comparison: Comparison) -> str:
    if comparison.verdict != "drift":
        return comparison.verdict.capitalize()
    return "Strong drift" if comparison.strong else "Drift"


def test_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row a test, the surest difference first."""
    return [
        {
            "test": test.name,
            "p": f"{test.p_value:.4f}",
            "adjusted p": f"{test.adjusted:.4f}",
            "effect (AUC)": f"{test.effect:.2f}, {size(test)}",
            "reference": "" if test.reference is None else f"{test.reference:.3g}",
            "now": "" if test.current is None else f"{test.current:.3g}",
            "conversations": f"{test.rows[0]} / {test.rows[1]}",
            "drift": "yes" if test.drifted else "",
        }
        for test in sorted(comparison.tests, key=lambda test: test.adjusted)
    ]


def size(test: TestResult) -> str:
    """Cohen's small, medium and large (d = 0.2, 0.5, 0.8) as AUC (Ruscio, 2008)."""
    distance = abs(test.effect - 0.5)
    steps = ((0.21, "large"), (0.14, "medium"), (0.055, "small"))
    return next((word for least, word in steps if distance >= least), "slight")


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= SHOWN_CHARACTERS else flat[: SHOWN_CHARACTERS - 1] + "…"


# -- plots ---------------------------------------------------------------------------


def _map(evidence: Evidence) -> str:
    """t-SNE of some of the users' messages; the less like the reference, the darker."""
    before = _some(evidence.reference.user_vectors)
    after = _some(evidence.current.user_vectors)
    scores = _some(evidence.embeddings["user"].scores)
    points = np.concatenate([before, after])
    flat = _flattened(points)
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axes = figure.subplots()
    (x, y), (now_x, now_y) = flat[: len(before)].T, flat[len(before) :].T
    axes.scatter(x, y, s=10, color=REFERENCE, alpha=0.5, label="reference")
    shown = axes.scatter(now_x, now_y, s=14, c=scores, cmap="YlOrBr", label="now")
    axes.set(xticks=[], yticks=[])
    axes.legend(loc="upper right", frameon=False)
    figure.colorbar(shown, ax=axes, label="unlike the reference")
    return as_base64(figure)


def _flattened(points: Vectors) -> Vectors:
    """Points [n, d] in two dimensions; equal ones stay where they are."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if not np.ptp(points, axis=0).any():
        return np.zeros((len(points), 2), dtype=np.float32)
    # Its threads wait for each other many times a millisecond: beside a retrain on the same
    # cores more than one take twenty times as long.
    with threadpool_limits(1):
        flat: Vectors = TSNE(
            init="pca", random_state=7, perplexity=min(30.0, (len(points) - 1) / 3)
        ).fit_transform(points)
    return flat


def _some(rows: Any) -> Any:
    step = max(1, -(-len(rows) // MAP_POINTS))
    return rows[::step]


def _nulls(evidence: Evidence) -> str:
    names: dict[Side, str] = {"user": "questions", "assistant": "answers"}
    found = evidence.embeddings
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    for axes, (side, test) in zip(
        figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True
    ):
        axes.hist(test.null, bins=40, color=REFERENCE, label="permuted")
        axes.axvline(test.statistic, color=CURRENT, linewidth=2, label="observed")
        axes.set(title=names[side], xlabel="statistic", yticks=[])
        axes.legend(frameon=False)
    return as_base64(figure)


def _shifts(evidence: Evidence) -> str:
    tested = {test.name: test for test in evidence.comparison.tests if not test.embedding}
    plotted = [name for name in PLOTTED if name in tested]
    yes_no = [test for name, test in tested.items() if name not in PLOTTED]
    count = len(plotted) + 2
    figure = Figure(figsize=(9, 2.6 * -(-count // 3)), layout="constrained")
    panels = list(figure.subplots(-(-count // 3), 3).flat)
    for axes, name in zip(panels, plotted, strict=False):
        _histogram(axes, *_values(evidence, tested[name]), PLOTTED[name])
    _shares(panels[len(plotted)], yes_no)
    _languages(panels[len(plotted) + 1], evidence.reference, evidence.current)
    for axes in panels[count:]:
        axes.set_axis_off()
    return as_base64(figure)


def _values(evidence: Evidence, test: TestResult) -> tuple[Numbers, Numbers]:
    settled = evidence.settled or evidence.reference
    before = evidence.reference if test.side == "user" else settled
    return before.numbers[test.name], evidence.current.numbers[test.name]


def _histogram(axes: Any, before: Numbers, after: Numbers, label: str) -> None:
    before, after = before[~np.isnan(before)], after[~np.isnan(after)]
    both = np.concatenate([before, after])
    edges = np.histogram_bin_edges(np.clip(both, None, np.quantile(both, 0.98)), bins=20)
    for values, color, name in ((before, REFERENCE, "reference"), (after, CURRENT, "now")):
        clipped = np.clip(values, edges[0], edges[-1])
        axes.hist(
            clipped,
            bins=edges,
            weights=np.full(len(values), 1 / len(values)),
            color=color,
            alpha=0.6,
            label=name,
        )
    axes.set(xlabel=label, ylabel="share")
    axes.legend(frameon=False)


def _shares(axes: Any, tests: list[TestResult]) -> None:
    places = np.arange(len(tests))
    axes.barh(places + 0.2, [test.reference or 0 for test in tests], 0.4, color=REFERENCE)
    axes.barh(places - 0.2, [test.current or 0 for test in tests], 0.4, color=CURRENT)
    axes.set_yticks(places, [test.name for test in tests])
    axes.set(xlabel="share")


def _languages(axes: Any, reference: Features, current: Features) -> None:
    before, after = (
        Counter(code for code in side.language if code) for side in (reference, current)
    )
    names = [code for code, _ in (before + after).most_common(5)]
    places = np.arange(len(names))
    for counts, color, shift in ((before, REFERENCE, 0.2), (after, CURRENT, -0.2)):
        shares = [counts[code] / max(1, counts.total()) for code in names]
        axes.barh(places + shift, shares, 0.4, color=color)
    axes.set_yticks(places, names)
    axes.set(xlabel="share of messages, by language")
