"""Decide: does the challenger beat the bar by more than chance?

The gate is the mean token loss on held-out conversations, paired by conversation. The
interval is a bootstrap over conversations (Efron & Tibshirani, 1993) of the ratio
sum(loss differences) / sum(tokens), because tokens of one conversation are not
independent. The challenger passes if the whole interval is below `-min_improvement`.

After drift there are two gates: it must be better on the new data, and on the old data
not worse by more than `max_regression` (non-inferiority). Both must pass, so that neither
needs a correction for the other.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from models.score import ItemLoss
from tasks.evaluate import Evaluation
from tasks.replay import NEW, OLD, Slice

Decision = Literal["promote", "keep", "unchanged"]


class DecideSettings(BaseModel):
    """What a challenger must show."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_improvement: float = Field(
        default=0.0, ge=0, description="Nats a token by which it must be better than the bar."
    )
    max_regression: float = Field(
        default=0.05,
        ge=0,
        description="After drift: nats a token by which it may be worse on the old data.",
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="Confidence of the interval that must show it."
    )
    min_items: int = Field(
        default=8, ge=2, description="Held-out conversations below which nothing is promoted."
    )
    resamples: int = Field(default=5000, ge=100, description="Bootstrap resamples.")
    seed: int = Field(default=7, ge=0, description="Seed of the bootstrap.")


class Gate(BaseModel):
    """One rule a challenger must pass, with the numbers it was judged by."""

    model_config = ConfigDict(frozen=True)

    name: str
    passed: bool
    value: float
    low: float | None
    high: float | None
    threshold: float
    items: int
    reason: str


class Verdict(BaseModel):
    """The decision about one challenger and why."""

    model_config = ConfigDict(frozen=True)

    decision: Decision
    bar: str
    gates: tuple[Gate, ...]
    reason: str


def decide(evaluation: Evaluation, settings: DecideSettings, *, is_champion: bool) -> Verdict:
    """Judge the challenger.

    Args:
        evaluation: the same items scored by challenger, champion and base.
        settings: the gate's margin and confidence.
        is_champion: the challenger is the very adapter that is champion already.
    """
    name, bar = evaluation.bar
    if is_champion:
        return Verdict(
            decision="unchanged",
            bar=name,
            gates=(),
            reason="the same data, base and recipe gave the adapter that is champion already",
        )
    mine, its = evaluation.challenger.items, bar.items
    if evaluation.slices:
        gates = tuple(
            below(
                f"{part} data: held-out loss",
                name,
                *(_only(items, evaluation.slices, part) for items in (mine, its)),
                threshold=threshold,
                settings=settings,
            )
            for part, threshold in (
                (NEW, 0.0 - settings.min_improvement),
                (OLD, settings.max_regression),
            )
        )
    else:
        gates = (
            below(
                "held-out loss",
                name,
                mine,
                its,
                threshold=0.0 - settings.min_improvement,
                settings=settings,
            ),
        )
    passed = all(gate.passed for gate in gates)
    return Verdict(
        decision="promote" if passed else "keep",
        bar=name,
        gates=gates,
        reason="; ".join(gate.reason for gate in gates),
    )


def _only(
    items: Sequence[ItemLoss], slices: Mapping[str, Slice], part: Slice
) -> Sequence[ItemLoss]:
    return [item for item in items if slices.get(item.id) == part]


def below(
    name: str,
    bar_name: str,
    challenger: Sequence[ItemLoss],
    bar: Sequence[ItemLoss],
    *,
    threshold: float,
    settings: DecideSettings,
) -> Gate:
    """Whether the challenger's loss minus the bar's is below `threshold`, nats a token.

    Both sequences are of the same items in the same order.

    Raises:
        ValueError: they are not.
    """
    import numpy as np
    from scipy.stats import bootstrap

    if [(item.id, item.tokens) for item in challenger] != [(item.id, item.tokens) for item in bar]:
        raise ValueError("the two models were not scored on the same items")
    tokens = np.array([item.tokens for item in bar])
    difference = np.array(
        [mine.loss_sum - its.loss_sum for mine, its in zip(challenger, bar, strict=True)]
    )
    value = float(difference.sum() / tokens.sum()) if len(tokens) else 0.0
    low: float | None = None
    high: float | None = None
    if len(tokens) < settings.min_items:
        passed, reason = (
            False,
            (
                f"{name}: {len(tokens)} conversations are too few to tell"
                f" (decide.min_items is {settings.min_items})"
            ),
        )
    else:
        interval = bootstrap(
            (difference, tokens),
            lambda d, t, axis: d.sum(axis=axis) / t.sum(axis=axis),
            paired=True,
            vectorized=True,
            n_resamples=settings.resamples,
            confidence_level=settings.confidence,
            method="percentile",
            rng=np.random.default_rng(settings.seed),
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
        passed = high < threshold
        reason = (
            f"{name} {value:+.3f} nats a token against the {bar_name}"
            f" ({settings.confidence:.0%} interval {low:+.3f} to {high:+.3f},"
            f" {len(tokens)} conversations), must be below {threshold:.3f}"
        )
    return Gate(
        name=f"{name} against the {bar_name}",
        passed=passed,
        value=value,
        low=low,
        high=high,
        threshold=threshold,
        items=len(tokens),
        reason=reason,
    )
