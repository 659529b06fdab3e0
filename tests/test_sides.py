"""Sides of a comparison that are equal, overlap, or hold one value only; and all that became of
their rows."""

import itertools
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from tasks.drift.compare import Comparison, DriftSettings, compare, foreign, rank_test, unknown
from tasks.drift.features import Features
from tasks.drift.report import page
from tasks.drift.sides import Side, read_side
from tasks.drift.two_sample import two_sample
from tasks.ingest import IngestSettings, Source, ingest
from tests.logs import hour, log_row, write_log
from tests.test_log_formats import DATA
from tests.test_logs import KEY

SETTINGS = DriftSettings(permutations=199)
NAMES = (
    *("question length", "personal data", "answer length", "refusals"),
    *("feedback", "latency", "loss"),
)
VECTORS = {
    "zeros": lambda count: np.zeros((count, 16)),
    "one": lambda count: np.tile(np.eye(1, 16), (count, 1)),
    "another": lambda count: np.tile(np.eye(2, 16)[1:], (count, 1)),
    "two": lambda count: np.eye(2, 16)[np.arange(count) % 2],
    "many": lambda count: np.random.default_rng(count).normal(size=(count, 16)),
}


def features(kind: str, count: int, value: float, text: str = "hello my old friend") -> Features:
    vectors = VECTORS[kind](count).astype(np.float32)
    return Features(
        ids=[str(number) for number in range(count)],
        user=[text] * count,
        assistant=["fine"] * count,
        language=["en"] * count,
        user_vectors=vectors,
        assistant_vectors=vectors,
        numbers={name: np.full(count, value) for name in NAMES},
    )


def compared(before: Features, after: Features) -> Comparison:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        evidence = compare(before, before, after, SETTINGS)
        assert page(evidence, {"model": "m"})
    return evidence.comparison


@pytest.mark.parametrize("kind", VECTORS)
@pytest.mark.parametrize("value", [0.0, 1.0, 7.5, np.nan])
def test_equal_sides_are_quiet(kind: str, value: float) -> None:
    side = features(kind, 40, value)
    comparison = compared(side, side)
    assert comparison.verdict == "quiet"
    assert all(0 < test.p_value <= 1 for test in comparison.tests)
    assert all(np.isfinite(test.effect) for test in comparison.tests)


@pytest.mark.parametrize(("before", "after"), itertools.permutations(VECTORS, 2))
def test_sides_of_few_values_can_be_compared(before: str, after: str) -> None:
    comparison = compared(features(before, 40, 1.0), features(after, 35, 1.0))
    questions = next(test for test in comparison.tests if test.name == "questions")
    assert np.isfinite(questions.effect)
    if {before, after} == {"one", "another"}:
        assert (questions.p_value, questions.effect) == (1 / 200, 1.0)


def test_one_value_against_another() -> None:
    comparison = compared(features("many", 60, 5.0), features("many", 60, 7.0))
    drifted = {test.name for test in comparison.tests if test.drifted}
    assert {"question length", "answer length", "loss"} <= drifted
    same = np.full(50, 3.0)
    assert rank_test(same, same) == (1.0, 0.5)
    assert rank_test(np.zeros(50), np.zeros(50)) == (1.0, 0.5)


def test_equal_points_on_both_sides() -> None:
    point = np.full((40, 8), 1 / 3, dtype=np.float32)
    found = two_sample(point, point, permutations=99)
    assert (found.p_value, found.effect) == (1.0, 0.5)


def texts(count: int, seed: int, words: int = 2000) -> list[str]:
    draw = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrst"))
    vocabulary = ["".join(letters[list(map(int, f"{n:04}"))]) for n in range(words)]
    return [" ".join(draw.choice(vocabulary, 12)) for _ in range(count)]


def unknown_words(reference: list[str], current: list[str]) -> float:
    before, after = unknown(reference, current)
    return rank_test(before[~np.isnan(before)], after[~np.isnan(after)])[0]


def test_a_copy_has_no_new_words() -> None:
    reference = texts(400, 1)
    assert unknown_words(reference, reference) > 0.1
    assert unknown_words(reference, reference[::-1]) > 0.1
    assert unknown_words(reference, reference[:200]) > 0.1


@pytest.mark.parametrize("shared", [0, 60, 150])
def test_shared_texts_do_not_raise_false_alarms_of_new_words(shared: int) -> None:
    alarms = 0
    for seed in range(150):
        drawn = texts(400 - shared, seed)
        reference = drawn[:200]
        current = [*reference[:shared], *drawn[200:]]
        np.random.default_rng(seed).shuffle(current)
        alarms += unknown_words(reference, current) <= 0.1
    assert binomtest(alarms, 150, 0.1, alternative="greater").pvalue > 0.001


def test_new_words_among_shared_texts_are_found() -> None:
    reference = texts(400, 1)
    new = [f"zzzz{n} yyyy{n} {text}" for n, text in enumerate(texts(200, 2))]
    assert unknown_words(reference, [*reference[:200], *new]) < 0.001


def test_languages_of_one_value() -> None:
    before, after = foreign(["", "en"] * 20, ["", "de"] * 20)
    assert set(before[~np.isnan(before)]) == {0.0}
    assert set(after[~np.isnan(after)]) == {1.0}
    assert all(np.isnan(side).all() for side in foreign([""] * 3, [""] * 3))


# -- what becomes of the rows of a side ------------------------------------------------------


def side_of(path: Path, rows: int) -> Side:
    return read_side(ingest(IngestSettings(sources=(Source(path=str(path), rows=rows),)), KEY))


def test_a_side_tells_all_its_rows(tmp_path: Path) -> None:
    rows = hour(60, 3)
    rows[7]["latency_ms"] = 10**400
    chat = log_row(rows[0]["timestamp"], "", "fine as well")
    earlier = rows[0]["request"]["messages"][0], {"role": "assistant", "content": "fine, 0"}
    chat["request"] = {"messages": [*earlier, {"role": "user", "content": "and then?"}]}
    monologue = {"messages": [{"role": "user", "content": "hello?"}]}
    (tmp_path / "logs").mkdir()
    write_log(tmp_path / "logs" / "app.jsonl", [*rows, chat, monologue])
    write_log(tmp_path / "logs" / "app.jsonl.1", rows[:20])
    (tmp_path / "logs" / "app.jsonl.2").write_text("nonsense\nnonsense\n")
    (tmp_path / "logs" / "notes.txt").write_text("no rows")
    account = side_of(tmp_path / "logs", 1000).account
    assert account.rows == 84
    assert account.compared == 60  # the first one is in `chat`
    assert account.duplicates == 20
    assert account.contained == 1
    assert account.unanswered + sum(account.quarantined.values()) == 3
    assert account.quarantined["row: not JSON"] == 2
    assert account.readings.unknown == {"latency_ms": 1}
    assert [name.rsplit("/", 1)[-1] for name in account.passed_over] == ["notes.txt"]
    sampled = side_of(tmp_path / "logs", 50).account
    assert (sampled.rows, sampled.not_sampled) == (84, 34)


def test_rotated_copies_are_duplicates() -> None:
    account = side_of(DATA / "odd-logs" / "folder", 1000).account
    assert (account.rows, account.duplicates) == (209, 140)
    assert account.compared + account.unanswered == 66
    assert sum(account.quarantined.values()) == 3


def test_a_side_of_a_thousand_turns_is_read(tmp_path: Path) -> None:
    turns = [{"role": ("user", "assistant")[n % 2], "content": str(n)} for n in range(20_000)]
    (tmp_path / "long.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    shutil.copy(tmp_path / "long.jsonl", tmp_path / "copy.jsonl")
    assert side_of(tmp_path, 10).account.rows == 2
