"""Paired comparisons of two models on the same items: estimate, interval, p-value, power.

Every metric is a ratio over items, sum(d) / sum(w): nats over tokens, points over answers. The
test flips the sign of each item's difference at random (Fisher, 1935): where the difference of
an item is as likely to be against the challenger as for it, each pattern of signs is as likely as
the one seen, so the p-value is exact for any number of items and any spread.

Flipping the items of a subset F leaves the sum at or beyond what was seen exactly if
sum_F(d) / sum_F(w) is at or beyond the margin. So the ratios of random subsets are "typical
values" (Hartigan, JASA 64, 1969): their order statistics are the confidence interval that belongs
to that test. Interval and test cannot contradict each other.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Rows of a chunk of random subsets: [CHUNK, n] booleans at a time.
CHUNK = 512
# Items that are needed, where it would be even more.
MOST = 10**9


@dataclass(frozen=True)
class Paired:
    """Differences of n items, `difference` [n] in units of the metric times `weight` [n].

    Draws `resamples` random subsets of the items with `seed`.
    """

    difference: Floats
    weight: Floats
    resamples: int = 4999
    seed: int = 7

    @property
    def value(self) -> float:
        """The difference of the two models."""
        return float(self.difference.sum() / self.weight.sum())

    @cached_property
    def typical(self) -> Floats:
        """The ratios of random non-empty subsets, sorted [resamples]."""
        draw = np.random.default_rng(self.seed)
        ratios = []
        for at in range(0, self.resamples, CHUNK):
            rows = min(CHUNK, self.resamples - at)
            chosen = draw.random((rows, len(self.weight))) < 0.5
            # An empty subset is the pattern that was seen, which the p-value counts apart.
            empty = ~chosen.any(axis=1)
            chosen[empty, draw.integers(len(self.weight), size=int(empty.sum()))] = True
            ratios.append((chosen @ self.difference) / (chosen @ self.weight))
        return np.sort(np.concatenate(ratios))

    def interval(self, confidence: float) -> tuple[float, float]:
        """(low, high): each end is beyond the truth with probability (1 - confidence) / 2.

        An end is infinite if there are too few resamples to tell.
        """
        tail = int((1 - confidence) / 2 * (self.resamples + 1))
        if tail < 1:
            return -math.inf, math.inf
        return float(self.typical[tail - 1]), float(self.typical[-tail])

    def p_below(self, margin: float) -> float:
        """How likely such a difference or a smaller one is if the truth is `margin` or more."""
        at_least = self.resamples - np.searchsorted(self.typical, margin, side="left")
        return float(1 + at_least) / (self.resamples + 1)

    def p_above(self, margin: float) -> float:
        """How likely such a difference or a larger one is if the truth is `margin` or less."""
        at_most = np.searchsorted(self.typical, margin, side="right")
        return float(1 + at_most) / (self.resamples + 1)

    @property
    def standard_error(self) -> float:
        """Of `value`: the ratio estimator's, linearised (Cochran, Sampling Techniques, 2.11)."""
        n = len(self.weight)
        if n < 2:
            return math.inf
        residual = self.difference - self.value * self.weight
        return float(math.sqrt(n / (n - 1) * (residual**2).sum()) / self.weight.sum())

    @property
    def _concentration(self) -> float:
        """One over the number of items that count: 1 / n if all weigh the same (Kish, 1965)."""
        return float((self.weight**2).sum() / self.weight.sum() ** 2)

    def _flipped(self, effect: float) -> float:
        """The standard error of `value` under flipped signs: the effect spreads them as well,
        sqrt(SE^2 + effect^2 sum(w^2) / sum(w)^2)."""
        return math.hypot(self.standard_error, effect * math.sqrt(self._concentration))

    def power(self, effect: float, level: float) -> float:
        """How likely a one-sided test at `level` finds a true difference of `effect` from the
        margin with as many such items (normal approximation).

        The difference has to pass z times the spread of flipped signs, and itself spreads by SE.
        """
        from scipy.stats import norm

        if self.standard_error == 0:
            return 1.0 if effect > 0 else 0.0
        passed = norm.isf(level) * self._flipped(effect)
        return float(norm.cdf((effect - passed) / self.standard_error))

    def detectable(self, level: float, power: float) -> float:
        """The true difference from the margin that a test at `level` finds with `power`.

        `power` solved for the effect; infinite for so few items that no effect would do.
        """
        from scipy.stats import norm

        z, q = float(norm.isf(level)), float(norm.ppf(power))
        rest = 1 - z**2 * self._concentration
        if rest <= 0:
            return math.inf
        return (q + math.sqrt(q**2 - rest * (q**2 - z**2))) / rest * self.standard_error

    def items_needed(self, effect: float, level: float, power: float) -> int:
        """Items of this kind with which a true difference of `effect` is found with `power`, at
        most a billion."""
        from scipy.stats import norm

        z, q = float(norm.isf(level)), float(norm.ppf(power))
        found = (z * self._flipped(effect) + q * self.standard_error) / effect
        root = min(math.sqrt(len(self.weight)) * found, math.sqrt(MOST))
        return max(2, math.ceil(root**2 - 1e-9))
