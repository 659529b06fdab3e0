"""Field cases of the scrub: what is personal goes, whatever it looks like, and nothing else does.

By patterns alone where they are enough; names and addresses by the learned detector as it ships,
which takes minutes to train and is therefore among the slow tests.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from data_contracts.policy import load_policy
from data_contracts.records import Message
from data_contracts.workspace import Workspace
from tasks.scrub.detector import DetectorSettings, built
from tasks.scrub.engine import Scrubber

CASES = Path(__file__).parent / "data" / "scrub_cases"
# What no pattern can know: names, towns, and how a street is called in another script.
NEEDS_DETECTOR = {"ad4", "ad5", "ad6", "tooljson", "html", "esc", "plate"}


def cases(folder: str) -> list[Any]:
    """One a row: its messages, what is to be gone of the text, and what is to stay."""
    rows = {
        row["id"]: row["messages"]
        for row in map(json.loads, (CASES / folder / "chats.jsonl").read_text("utf-8").splitlines())
    }
    expected = json.loads((CASES / folder / "chats.expect.json").read_text("utf-8"))
    return [pytest.param(rows[one["id"]], one, id=one["name"]) for one in expected]


@cache
def patterns() -> Scrubber:
    return Scrubber(load_policy().model_copy(update={"detector": False}), None)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Scrubber:
    """With the detector of the default settings, whatever the tests' own are."""
    workspace = Workspace(home=tmp_path_factory.mktemp("shipped"))
    workspace.create()
    detector = built(load_policy(), DetectorSettings(), workspace)
    assert detector is not None
    return Scrubber(load_policy(), Path(detector.path))


def scrubbed(scrubber: Scrubber, messages: list[dict[str, str]]) -> str:
    read = [Message(role=one["role"], content=one["content"]) for one in messages]
    return "\n".join(one.content for one in scrubber.scrub(read).messages)


def left(text: str, expected: dict[str, Any]) -> list[str]:
    return [value for value in expected["gone"] if value in text]


def lost(text: str, expected: dict[str, Any]) -> list[str]:
    return [value for value in expected["stay"] if value not in text]


@pytest.mark.parametrize(("messages", "expected"), cases("12-numbers-code"))
def test_numbers_and_code_stay(messages: list[dict[str, str]], expected: dict[str, Any]) -> None:
    text = scrubbed(patterns(), messages)
    assert (left(text, expected), lost(text, expected)) == ([], [])


@pytest.mark.parametrize(("messages", "expected"), cases("11-languages"))
def test_ordinary_words_of_other_languages_stay(
    messages: list[dict[str, str]], expected: dict[str, Any]
) -> None:
    assert lost(scrubbed(patterns(), messages), expected) == []


@pytest.mark.parametrize(("messages", "expected"), cases("13-odd-formats"))
def test_personal_data_goes_whatever_its_separators(
    messages: list[dict[str, str]], expected: dict[str, Any]
) -> None:
    text = scrubbed(patterns(), messages)
    assert lost(text, expected) == []
    if expected["name"] not in NEEDS_DETECTOR:
        assert left(text, expected) == []


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["11-languages", "12-numbers-code", "13-odd-formats"])
def test_with_the_detector_as_it_ships(folder: str, shipped: Scrubber) -> None:
    wrong = {}
    covered = load_policy().covered
    for parameters in cases(folder):
        messages, expected = parameters.values
        text = scrubbed(shipped, messages)
        # Names in languages that are not covered are said to stay.
        there = left(text, expected) if expected["name"][:2] in (*covered, *"0123456789") else []
        if folder != "11-languages":
            there = left(text, expected)
        if there or lost(text, expected):
            wrong[expected["name"]] = (there, lost(text, expected))
    assert wrong == {}
