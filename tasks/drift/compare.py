"""Compare two windows: several tests, corrected together, one verdict.

Two kernel tests on embeddings detect: of what users ask, and of what is answered. Tests of
descriptors (lengths, language, words, personal data, refusals, feedback, the champion's own
loss) explain, and detect what embeddings cannot see. Holm's step-down procedure with weights
(Holm, 1979) keeps the chance that *any* of them rejects without drift below `alpha`; an
embedding test weighs as much as EMBEDDING_WEIGHT descriptors.

Rank tests are Mann-Whitney's; yes/no descriptors are compared by Fisher's exact test. Every
test's effect is an AUC: the chance that a record of the current window ranks above one of the
reference, 0.5 if they are alike.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tasks.drift.features import Features, Numbers, Vectors
from tasks.drift.two_sample import TwoSample, two_sample
from tasks.holm import weighted_holm
from tasks.text import words

EMBEDDING_WEIGHT = 4.0
EXAMPLES = 8
# A language that fewer of the reference's messages are in is a foreign one.
HOME_LANGUAGE = 0.05
# Fewer known values of a descriptor are not tested.
MIN_KNOWN = 30

Side = Literal["user", "assistant"]
DriftVerdict = Literal["quiet", "drift", "not enough data"]


class DriftSettings(BaseModel):
    """How traffic is compared with what the champion knows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float = Field(
        default=0.01,
        gt=0,
        lt=0.5,
        description="Chance of a false alarm a window, all its tests together.",
    )
    permutations: int = Field(
        default=1999, ge=199, description="Permutations of an embedding test."
    )
    reference_records: int = Field(
        default=2000, ge=100, description="Conversations of the reference, at most."
    )
    min_effect: float = Field(
        default=0.51,
        ge=0.5,
        lt=1,
        description="AUC below which a significant difference is too small to matter.",
    )
    strong_effect: float = Field(
        default=0.75,
        gt=0.5,
        le=1,
        description="AUC of an embedding test at which one window opens an episode by itself.",
    )
    score_records: int = Field(
        default=100,
        ge=0,
        description="Records of a window that the champion scores itself; 0 for none.",
    )
    seed: int = Field(default=7, ge=0, description="Seed of samples and permutations.")


class TestResult(BaseModel):
    """One test. `adjusted` is the p-value after correction over all tests of the window.

    `reference` and `current` are means of a descriptor, None for embeddings.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    side: Side
    embedding: bool
    p_value: float
    adjusted: float
    effect: float
    reference: float | None
    current: float | None
    rows: tuple[int, int]
    drifted: bool


class Example(BaseModel):
    """A message of the current window that the reference has nothing like. Scrubbed."""

    model_config = ConfigDict(frozen=True)

    id: str
    text: str
    score: float


class Comparison(BaseModel):
    """What the tests say, and why."""

    model_config = ConfigDict(frozen=True)

    verdict: DriftVerdict
    strong: bool
    reason: str
    alpha: float
    reference_rows: int
    current_rows: int
    tests: tuple[TestResult, ...]
    not_tested: dict[str, str]
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Evidence:
    """A comparison and the arrays that its plots are drawn from."""

    comparison: Comparison
    reference: Features
    settled: Features | None
    current: Features
    embeddings: dict[Side, TwoSample]


@dataclass(frozen=True)
class _Test:
    name: str
    side: Side
    p_value: float
    effect: float
    reference: float | None
    current: float | None
    rows: tuple[int, int]
    embedding: bool = False


def compare(
    reference: Features, settled: Features | None, current: Features, settings: DriftSettings
) -> Evidence:
    """Test the current window.

    Args:
        reference: what the champion was trained on; users' messages are compared with it.
        settled: traffic that was found quiet under this champion; answers are compared with
            it, because a model's answers are unlike the data it was trained on from the
            first day on. None before there is any.
        current: the window.
        settings: levels and sizes.
    """
    embeddings: dict[Side, TwoSample] = {}
    if min(len(reference), len(current)) < MIN_KNOWN:
        return Evidence(_too_few(reference, current, settings), reference, None, current, {})
    tests, skipped = [], {}
    embeddings["user"] = _embedded(reference.user_vectors, current.user_vectors, settings)
    tests.append(_embedding_test("questions", "user", embeddings["user"], reference, current))
    if settled is None or len(settled) < MIN_KNOWN:
        settled = None
        skipped["answers"] = "no traffic yet that settled under this champion"
    else:
        found = _embedded(settled.assistant_vectors, current.assistant_vectors, settings)
        embeddings["assistant"] = found
        tests.append(_embedding_test("answers", "assistant", found, settled, current))
    for name, side, before, after in _descriptors(reference, settled, current):
        before, after = before[~np.isnan(before)], after[~np.isnan(after)]
        if min(len(before), len(after)) < MIN_KNOWN:
            skipped[name] = f"known of {len(before)} and {len(after)} conversations only"
            continue
        p_value, effect = rank_test(before, after)
        rows = (len(before), len(after))
        means = float(before.mean()), float(after.mean())
        tests.append(_Test(name, side, p_value, effect, *means, rows))
    results = _judge(tests, settings)
    drifted = [test for test in results if test.drifted]
    strong = any(
        test.embedding and test.effect >= settings.strong_effect for test in results if test.drifted
    )
    comparison = Comparison(
        verdict="drift" if drifted else "quiet",
        strong=strong,
        reason=_reason(results, settings),
        alpha=settings.alpha,
        reference_rows=len(reference),
        current_rows=len(current),
        tests=tuple(results),
        not_tested=skipped,
        examples=_examples(current, embeddings["user"]) if drifted else (),
    )
    return Evidence(comparison, reference, settled, current, embeddings)


def _too_few(reference: Features, current: Features, settings: DriftSettings) -> Comparison:
    return Comparison(
        verdict="not enough data",
        strong=False,
        reason=f"{len(current)} usable conversations against {len(reference)} are too few to tell",
        alpha=settings.alpha,
        reference_rows=len(reference),
        current_rows=len(current),
        tests=(),
        not_tested={},
        examples=(),
    )


def _embedded(before: Vectors, after: Vectors, settings: DriftSettings) -> TwoSample:
    return two_sample(before, after, permutations=settings.permutations, seed=settings.seed)


def _embedding_test(
    name: str, side: Side, found: TwoSample, before: Features, after: Features
) -> _Test:
    rows = (len(before), len(after))
    return _Test(name, side, found.p_value, found.effect, None, None, rows, embedding=True)


def _descriptors(
    reference: Features, settled: Features | None, current: Features
) -> list[tuple[str, Side, Numbers, Numbers]]:
    """(name, side, reference's values, current values) of each descriptor."""
    found: list[tuple[str, Side, Numbers, Numbers]] = [
        ("question length", "user", *_values("question length", reference, current)),
        ("personal data", "user", *_values("personal data", reference, current)),
        ("foreign language", "user", *foreign(reference.language, current.language)),
        ("unknown words", "user", *unknown(reference.user, current.user)),
    ]
    if settled is not None:
        found += [
            (name, "assistant", *_values(name, settled, current))
            for name in ("answer length", "refusals", "feedback", "loss")
        ]
    return found


def _values(name: str, before: Features, after: Features) -> tuple[Numbers, Numbers]:
    return before.numbers[name], after.numbers[name]


def foreign(reference: Sequence[str], current: Sequence[str]) -> tuple[Numbers, Numbers]:
    """1 for each message in a language that is rare in the reference; nan where unknown."""
    counts = Counter(code for code in reference if code)
    home = {code for code, n in counts.items() if n >= HOME_LANGUAGE * counts.total()}

    def values(codes: Sequence[str]) -> Numbers:
        return np.array([float(code not in home) if code else np.nan for code in codes])

    return values(reference), values(current)


def unknown(reference: Sequence[str], current: Sequence[str]) -> tuple[Numbers, Numbers]:
    """Share of words that are not in the vocabulary of one half of the reference's distinct texts.

    Texts of the other half are what the current window is compared with. A text of either side that
    is in the first half is left out: its own words would be in the vocabulary that it is
    measured by, and a window that repeats the reference would seem to be of fewer new words.
    """
    first = set(list(dict.fromkeys(reference))[0::2])
    vocabulary = {word for text in first for word in words(text)}

    def values(texts: Sequence[str]) -> Numbers:
        shares = []
        for text in texts:
            found = [] if text in first else words(text)
            new = sum(word not in vocabulary for word in found)
            shares.append(new / len(found) if found else np.nan)
        return np.array(shares)

    return values([text for text in reference if text not in first]), values(current)


def rank_test(before: Numbers, after: Numbers) -> tuple[float, float]:
    """(two-sided p-value, AUC): Fisher's exact test for yes/no values, else Mann-Whitney's."""
    from scipy.stats import fisher_exact, mannwhitneyu

    u = mannwhitneyu(after, before, alternative="two-sided", method="asymptotic")
    effect = float(u.statistic) / (len(before) * len(after))
    if set(np.unique(before)) | set(np.unique(after)) <= {0.0, 1.0}:
        yes = [int(before.sum()), int(after.sum())]
        table = [[yes[0], len(before) - yes[0]], [yes[1], len(after) - yes[1]]]
        return float(fisher_exact(table).pvalue), effect
    return (1.0 if np.isnan(u.pvalue) else float(u.pvalue)), effect


def _judge(tests: Sequence[_Test], settings: DriftSettings) -> list[TestResult]:
    adjusted = weighted_holm(
        [test.p_value for test in tests],
        [EMBEDDING_WEIGHT if test.embedding else 1.0 for test in tests],
    )
    return [
        TestResult(
            name=test.name,
            side=test.side,
            embedding=test.embedding,
            p_value=test.p_value,
            adjusted=p,
            effect=test.effect,
            reference=test.reference,
            current=test.current,
            rows=test.rows,
            drifted=p <= settings.alpha
            and max(test.effect, 1 - test.effect) >= settings.min_effect,
        )
        for test, p in zip(tests, adjusted, strict=True)
    ]


def _reason(results: Sequence[TestResult], settings: DriftSettings) -> str:
    """The strongest three of what drifted."""
    drifted = sorted(
        (test for test in results if test.drifted), key=lambda test: -abs(test.effect - 0.5)
    )
    if not drifted:
        least = min(results, key=lambda test: test.adjusted)
        return (
            f"none of {len(results)} tests found a difference (least adjusted p"
            f" {least.adjusted:.3f}, {least.name}; alpha {settings.alpha:g})"
        )
    parts = [
        f"{test.name} (effect {test.effect:.2f}"
        + (f", {test.reference:.3g} -> {test.current:.3g}" if test.reference is not None else "")
        + ")"
        for test in drifted[:3]
    ]
    more = f" and {len(drifted) - 3} more" if len(drifted) > 3 else ""
    largest = max(test.adjusted for test in drifted)
    return (
        f"different in {', '.join(parts)}{more}; adjusted p at most {largest:.4f},"
        f" alpha {settings.alpha:g}"
    )


def _examples(current: Features, found: TwoSample) -> tuple[Example, ...]:
    """The messages least like the reference, no text twice."""
    examples: dict[str, Example] = {}
    for index in np.argsort(-found.scores, kind="stable"):
        text = current.user[index]
        score = float(found.scores[index])
        examples.setdefault(text, Example(id=current.ids[index], text=text, score=score))
        if len(examples) == EXAMPLES:
            break
    return tuple(examples.values())
