"""Many tests at once, and the chance that any of them is wrong."""

from collections.abc import Sequence


def weighted_holm(p_values: Sequence[float], weights: Sequence[float] | None = None) -> list[float]:
    """Adjusted p-values of Holm's step-down procedure with weights (Holm, 1979, section 5).

    Rejecting those at or below alpha rejects a true hypothesis with chance alpha at most. The
    weights are equal if none are given.
    """
    weights = weights or [1.0] * len(p_values)
    order = sorted(range(len(p_values)), key=lambda i: p_values[i] / weights[i])
    adjusted = [1.0] * len(p_values)
    remaining, floor = sum(weights), 0.0
    for index in order:
        floor = max(floor, min(1.0, p_values[index] / weights[index] * remaining))
        adjusted[index] = floor
        remaining -= weights[index]
    return adjusted
