"""The drift test: false alarms at its level, power where a topic is new, exactness."""

import numpy as np
import pytest
from scipy.stats import binomtest

from tasks.drift.compare import rank_test, unknown
from tasks.drift.two_sample import Floats, two_sample
from tasks.holm import weighted_holm


def points(count: int, seed: int, shift: float = 0.0) -> Floats:
    draw = np.random.default_rng(seed)
    found = draw.normal(size=(count, 24)) * np.linspace(2, 0.2, 24)
    found[:, 3] += shift
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("sizes", [(60, 60), (160, 50)])
def test_false_alarms_are_at_the_level(sizes: tuple[int, int]) -> None:
    n, m = sizes
    alarms = sum(
        two_sample(points(n, 2 * k), points(m, 2 * k + 1), permutations=99, seed=k).p_value <= 0.1
        for k in range(200)
    )
    assert binomtest(alarms, 200, 0.1, alternative="greater").pvalue > 0.001


def test_equal_points_do_not_raise_false_alarms() -> None:
    """Ties among neighbours must not tell the sides apart."""
    draw = np.random.default_rng(5)
    bases = points(40, 9)
    alarms = 0
    for k in range(100):
        pooled = bases[draw.integers(40, size=200)]
        alarms += two_sample(pooled[:140], pooled[140:], permutations=99, seed=k).p_value <= 0.1
    assert binomtest(alarms, 100, 0.1, alternative="greater").pvalue > 0.001


def test_a_small_new_cluster_is_found() -> None:
    cluster = points(1, 77) + np.random.default_rng(1).normal(size=(40, 24)) * 0.05
    current = np.concatenate([points(160, 2), cluster.astype(np.float32)])
    found = two_sample(points(200, 3), current, permutations=199)
    assert found.p_value == 1 / 200
    assert found.effect > 0.55
    assert set(np.argsort(-found.scores)[:20]) <= set(range(160, 200))


def test_apart_and_alike() -> None:
    apart = two_sample(points(100, 1), points(100, 2, shift=8.0), permutations=99)
    assert apart.effect > 0.95
    alike = two_sample(points(300, 1), points(300, 2), permutations=99)
    assert abs(alike.effect - 0.5) < 0.06


def test_the_same_every_time() -> None:
    first, second = (two_sample(points(80, 1), points(70, 2), permutations=99) for _ in range(2))
    assert (first.p_value, first.statistic) == (second.p_value, second.statistic)


def test_weighted_holm_by_hand() -> None:
    # Plain Holm: 3 x 0.01, then 2 x 0.02, then the last, never falling.
    assert weighted_holm([0.02, 0.01, 0.03], [1, 1, 1]) == pytest.approx([0.04, 0.03, 0.04])
    # The first weighs as much as the others together: 0.02 / 2 * 4, then 0.03 / 1 * 2.
    assert weighted_holm([0.02, 0.03, 0.5], [2, 1, 1]) == pytest.approx([0.04, 0.06, 0.5])


def test_rank_test_is_exact_for_rare_yes() -> None:
    none, few = np.zeros(2000), np.array([1.0] * 3 + [0.0] * 497)
    p_value, effect = rank_test(none, few)
    assert p_value == pytest.approx((500 * 499 * 498) / (2500 * 2499 * 2498), rel=1e-6)
    assert effect == pytest.approx(0.503)


def test_words_of_the_reference_are_not_measured_by_themselves() -> None:
    before, after = unknown(["red cat", "blue dog"] * 2, ["red cat", "new words"])
    assert list(before) == [1.0, 1.0]
    assert np.isnan(after[0]), "it is in the half that the vocabulary is of"
    assert after[1] == 1.0
