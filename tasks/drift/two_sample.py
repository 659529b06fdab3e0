"""A permutation test of whether two sets of embeddings come from one distribution.

The statistic is the sum of two, each standardised over the permutations:

- the squared length of the mean difference in ridge-whitened coordinates (a regularised
  Hotelling statistic; Harchaoui, Bach & Moulines, 2008). It sees shifts of the whole.
- the sum over all points of the squared label average among their neighbours in the
  10-nearest-neighbour graph (in the manner of Schilling, 1986). It sees small clusters
  that only one side has, such as a new topic in a tenth of the traffic.

Coordinates and graph come from the pooled points, so they are the same for every labelling,
and p = (1 + permutations at least as extreme) / (1 + permutations) is exact whatever the
distribution, for any sizes of the two sides (Lehmann & Romano, 2005, section 15.2).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

RIDGE = 0.03
LEAST_VARIANCE = 1e-9
# Of the squared length of points of 32-bit numbers: a smaller spread is none.
ROUNDING = 1e-9
NEIGHBOURS = 10
FOLDS = 5
# Permutations at a time: bounds memory to CHUNK x points.
CHUNK = 250


@dataclass(frozen=True)
class TwoSample:
    """The outcome of a test.

    `statistic` and `null` [permutations] are on one scale. `effect` is the AUC of a
    discriminant that tells current from reference on points it was not fitted to: 0.5 if
    they are alike, 1 if they are apart. `scores` [current rows] are its values: the
    higher, the less the reference has anything like it.
    """

    statistic: float
    null: Floats
    p_value: float
    effect: float
    scores: Floats


def two_sample(
    reference: Floats, current: Floats, *, permutations: int = 1999, seed: int = 7
) -> TwoSample:
    """Test whether `current` [m, d] comes from where `reference` [n, d] does.

    The same for the same input and seed. Takes memory for (n + m)^2 similarities.
    """
    draw = np.random.default_rng(seed)
    pooled = np.concatenate([reference, current]).astype(np.float32)
    if not varies(pooled):
        same = np.zeros(len(current))
        return TwoSample(0.0, np.zeros(permutations), 1.0, 0.5, same)
    labels = np.repeat([0.0, 1.0], [len(reference), len(current)]).astype(np.float32)
    # Equal points tie as neighbours, and ties go by position: it must not tell the side.
    order = draw.permutation(len(pooled))
    pooled, labels = pooled[order], labels[order]
    coordinates, graph = whitened(pooled), neighbour_graph(pooled)
    shift, clusters = [], []
    for start in range(0, permutations + 1, CHUNK):
        count = min(CHUNK, permutations + 1 - start)
        rows = np.tile(labels, (count, 1))
        draw.permuted(rows, axis=1, out=rows)
        if start == 0:
            rows[0] = labels
        rows -= labels.mean()
        shift.append(np.square(rows @ coordinates).sum(axis=1))
        clusters.append(np.square(graph.dot(rows.T)).sum(axis=0))
    total = _standardised(np.concatenate(shift)) + _standardised(np.concatenate(clusters))
    statistic, null = float(total[0]), total[1:]
    extreme = int((null >= statistic - 1e-9).sum())
    effect, scores = discriminant(reference, current, seed)
    return TwoSample(statistic, null, (1 + extreme) / (1 + permutations), effect, scores)


def varies(points: Floats) -> bool:
    """Whether points [n, d] differ by more than they are rounded by."""
    spread = float(np.square(points - points.mean(axis=0)).sum(axis=1).mean())
    return spread > ROUNDING * float(np.square(points).sum(axis=1).mean())


def whitened(points: Floats) -> Floats:
    """Points [n, d] in the pooled covariance's eigenvectors, each divided by the root of its
    eigenvalue plus RIDGE times the trace."""
    centred = points - points.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(points))
    values = np.maximum(values, 0)
    scaled: Floats = centred @ (vectors / np.sqrt(values + RIDGE * values.sum() + 1e-12))
    return scaled


def neighbour_graph(points: Floats) -> Any:
    """The symmetric NEIGHBOURS-nearest-neighbour graph by cosine, a sparse matrix [n, n]."""
    from scipy.sparse import csr_matrix

    count = len(points)
    near = min(NEIGHBOURS, count - 1)
    centred = points - points.mean(axis=0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    columns = np.empty((count, near), dtype=np.int64)
    for start in range(0, count, 1024):
        similarity = unit[start : start + 1024] @ unit.T
        own = np.arange(len(similarity))
        similarity[own, start + own] = -np.inf
        columns[start : start + 1024] = np.argpartition(-similarity, near - 1, axis=1)[:, :near]
    rows = np.repeat(np.arange(count), near)
    ones = np.full(rows.size, 1 / near, dtype=np.float32)
    directed = csr_matrix((ones, (rows, columns.ravel())), shape=(count, count))
    return directed + directed.T


def discriminant(reference: Floats, current: Floats, seed: int) -> tuple[float, Floats]:
    """(AUC, scores of the current rows) of a cross-fitted ridge discriminant (Fisher's)."""
    from scipy.stats import rankdata

    points = np.concatenate([reference, current]).astype(np.float64)
    labels = np.repeat([False, True], [len(reference), len(current)])
    folds = np.random.default_rng(seed).permutation(len(points)) % FOLDS
    scores = np.empty(len(points))
    for fold in range(FOLDS):
        held = folds == fold
        before, after = points[~held & ~labels], points[~held & labels]
        centred = np.concatenate([before - before.mean(axis=0), after - after.mean(axis=0)])
        covariance = centred.T @ centred / len(centred)
        # Of equal points there is no variance: what is added keeps the matrix regular.
        ridge = (RIDGE * np.trace(covariance) + LEAST_VARIANCE) * np.eye(points.shape[1])
        direction = np.linalg.solve(covariance + ridge, after.mean(axis=0) - before.mean(axis=0))
        middle = (after.mean(axis=0) + before.mean(axis=0)) / 2
        scores[held] = (points[held] - middle) @ direction
    ranks = rankdata(scores)
    n, m = len(reference), len(current)
    auc = (ranks[labels].sum() - m * (m + 1) / 2) / (n * m)
    return float(auc), scores[labels]


def _standardised(values: Floats) -> Floats:
    centred: Floats = values - values.mean()
    return centred / max(float(values.std()), 1e-12)
