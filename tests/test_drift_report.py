"""The drift report shows what was found, and nothing of what users wrote can break it."""

import re

import numpy as np
import pytest

from tasks.drift.compare import DriftSettings, Evidence, compare
from tasks.drift.features import Features, together
from tasks.drift.report import markdown, page

SETTINGS = DriftSettings(permutations=199)
HOSTILE = "<script>alert('x')</script> a | b \u202eright to left\u202c \U0001f600 " + "long " * 200


def features(count: int, seed: int, *, new: int = 0) -> Features:
    draw = np.random.default_rng(seed)
    vectors = draw.normal(size=(count, 16)).astype(np.float32)
    vectors[:new, 0] += 30
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Features(
        ids=[str(n) for n in range(count)],
        user=[HOSTILE if n < new else f"how is the weather {n % 5}" for n in range(count)],
        assistant=["fine"] * count,
        language=["en"] * count,
        user_vectors=vectors,
        assistant_vectors=draw.normal(size=(count, 16)).astype(np.float32),
        numbers={
            name: draw.poisson(8, count).astype(float)
            for name in ("question length", "answer length", "loss", "latency")
        }
        | {name: (draw.random(count) < 0.1).astype(float) for name in ("personal data", "refusals")}
        | {"feedback": np.full(count, np.nan)},
    )


@pytest.fixture(scope="module", params=["drift", "quiet"])
def evidence(request: pytest.FixtureRequest) -> Evidence:
    settled = features(100, 3) if request.param == "drift" else None
    new = 60 if request.param == "drift" else 0
    found = compare(features(150, 1), settled, features(120, 2, new=new), SETTINGS)
    assert found.comparison.verdict == request.param
    return found


def test_the_page_is_whole_and_harmless(evidence: Evidence) -> None:
    html = page(evidence, {"model": HOSTILE})
    assert "<script" not in html
    assert not re.search(r"(src|href)=[\"']?https?:", html)
    for test in evidence.comparison.tests:
        assert f"<td>{test.name}</td>" in html
    assert html.count("data:image/png;base64,") == 3


def test_the_summary_keeps_its_tables(evidence: Evidence) -> None:
    text = markdown(evidence.comparison, {"model": "a | b\nc"})
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")
    # Prefect would keep what users wrote for ever; the page goes with its window.
    drifted = evidence.comparison.verdict == "drift"
    assert bool(evidence.comparison.examples) == drifted
    assert "alert(" not in text
    assert ("alert(" in page(evidence, {})) == drifted


def test_answers_wait_for_settled_traffic(evidence: Evidence) -> None:
    names = {test.name for test in evidence.comparison.tests}
    assert ("answers" in names) == (evidence.settled is not None)
    assert "feedback" in evidence.comparison.not_tested or evidence.settled is None


def test_features_come_back_as_saved(tmp_path: object) -> None:
    from pathlib import Path

    file = Path(str(tmp_path)) / "features.parquet"
    before = features(40, 1, new=3)
    before.save(file)
    after = Features.load(file)
    assert after.user == before.user
    assert np.array_equal(after.user_vectors, before.user_vectors)
    assert np.isnan(after.numbers["feedback"]).all()
    assert len(together([before, after], 60)) == 60


def test_too_few_to_tell_is_said_and_not_guessed() -> None:
    found = compare(features(150, 1), None, features(5, 2, new=5), SETTINGS)
    assert found.comparison.verdict == "not enough data"
    assert "too few to tell" in page(found, {"model": "m"})
    assert markdown(found.comparison, {"model": "m"}).startswith("# Not enough data")
