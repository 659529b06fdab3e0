"""The paired test: exact where it can be worked out by hand, honest where it can be simulated."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from tasks.decide.paired import Paired

SIMULATED = 400


def exact_p(difference: list[float], margin: float) -> float:
    """All patterns of signs, one by one."""
    seen = sum(value - margin for value in difference)
    patterns = itertools.product((1, -1), repeat=len(difference))
    sums = [
        sum(sign * (value - margin) for sign, value in zip(signs, difference, strict=True))
        for signs in patterns
    ]
    return sum(total <= seen + 1e-12 for total in sums) / len(sums)


def test_p_value_is_that_of_all_sign_patterns() -> None:
    difference = [-0.9, -0.4, 0.3, -0.7, -0.2, 0.1, -0.5, -0.6, 0.2, -0.3]
    paired = Paired(np.array(difference), np.ones(10), resamples=40_000)
    for margin in (0.0, -0.1, 0.2):
        assert paired.p_below(margin) == pytest.approx(exact_p(difference, margin), abs=0.01)


@given(st.lists(st.floats(-2, 2), min_size=8, max_size=40), st.sampled_from([0.8, 0.9, 0.95]))
def test_interval_and_test_agree(difference: list[float], confidence: float) -> None:
    paired = Paired(np.array(difference), np.ones(len(difference)), resamples=499)
    low, high = paired.interval(confidence)
    level = (1 - confidence) / 2
    assert low <= high
    assert paired.p_below(high + 1e-9) <= level + 1e-12
    assert paired.p_above(low - 1e-9) <= level + 1e-12
    assert paired.p_below(high - 1e-9) >= level - 2 / 500 or high == paired.typical[0]


def test_the_same_model_against_itself_is_never_better() -> None:
    paired = Paired(np.zeros(50), np.full(50, 12.0))
    assert paired.p_below(0.0) == 1.0
    assert paired.interval(0.95) == (0.0, 0.0)


@pytest.mark.parametrize("items", [10, 40])
def test_a_level_is_kept_and_power_is_as_stated(items: int) -> None:
    """Skewed items of different weights, as conversations are."""
    draw = np.random.default_rng(items)
    found, detected, stated = 0, 0, []
    for _ in range(SIMULATED):
        weight = draw.integers(5, 60, items).astype(float)
        noise = draw.standard_t(4, items) * 0.3 * weight
        found += Paired(noise, weight, resamples=499).p_below(0.0) <= 0.025
        shifted = Paired(noise - 0.15 * weight, weight, resamples=499)
        detected += shifted.p_below(0.0) <= 0.025
        stated.append(shifted.power(0.15, 0.025))
    assert binomtest(found, SIMULATED, 0.025, "greater").pvalue > 0.001
    assert detected / SIMULATED == pytest.approx(float(np.mean(stated)), abs=0.08)


def test_more_items_are_needed_for_smaller_effects() -> None:
    draw = np.random.default_rng(1)
    paired = Paired(draw.normal(-0.1, 0.3, 100), np.ones(100))
    effect = paired.detectable(0.025, 0.8)
    assert paired.power(effect, 0.025) == pytest.approx(0.8)
    assert paired.items_needed(effect, 0.025, 0.8) == 100
    assert 380 < paired.items_needed(effect / 2, 0.025, 0.8) < 400  # the effect spreads less
    assert paired.items_needed(1e-200, 0.025, 0.8) == 10**9
    assert Paired(np.array([-1.0]), np.ones(1)).items_needed(0.1, 0.025, 0.8) == 10**9


def test_too_few_items_never_show_anything() -> None:
    """Of three signs all alike one pattern in eight is as extreme."""
    assert Paired(np.array([-1.0, -1.1, -0.9]), np.ones(3)).detectable(0.025, 0.8) == np.inf
