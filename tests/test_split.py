"""Training and held-out conversations never meet, whatever comes in whatever order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.digests import digest_json
from data_contracts.errors import DataError
from data_contracts.records import Message, Record
from data_contracts.snapshots import write_records
from data_contracts.workspace import Workspace
from tasks.split import SplitSettings, assign, near_duplicates, split

DIGESTS = st.lists(st.integers(0, 10**9).map(digest_json), min_size=30, max_size=80, unique=True)


@given(DIGESTS, st.randoms())
def test_sides_do_not_depend_on_order(digests: list[str], draw: object) -> None:
    settings = SplitSettings(holdout=0.3, min_holdout=1)
    groups = list(range(len(digests)))
    first = dict(zip(digests, assign(digests, groups, settings), strict=True))
    shuffled = list(digests)
    draw.shuffle(shuffled)  # type: ignore[attr-defined]
    again = dict(zip(shuffled, assign(shuffled, groups, settings), strict=True))
    assert first == again


@given(DIGESTS)
def test_what_was_held_out_stays_held_out_when_data_grows(digests: list[str]) -> None:
    settings = SplitSettings(holdout=0.3, min_holdout=1)
    half = len(digests) // 2
    before = assign(digests[:half], list(range(half)), settings)
    after = assign(digests, list(range(len(digests))), settings)
    if sum(before) > settings.min_holdout:
        assert after[:half] == before


@given(st.lists(st.integers(0, 9), min_size=20, max_size=60))
def test_groups_are_never_torn_apart(raw: list[int]) -> None:
    groups = [raw.index(group) for group in raw]
    digests = [digest_json(number) for number in range(len(raw))]
    held = assign(digests, groups, SplitSettings(holdout=0.4, min_holdout=1))
    sides: dict[int, set[bool]] = {}
    for group, side in zip(groups, held, strict=True):
        sides.setdefault(group, set()).add(side)
    assert all(len(found) == 1 for found in sides.values())


def test_near_duplicates_share_a_group() -> None:
    text = "the quick brown fox jumps over the lazy dog and runs into the dark green forest " * 3
    groups = near_duplicates(
        [text, "nothing to do with the first one, at all, in any way", text + "today"], 0.7
    )
    assert groups == [0, 1, 0]


def make_records(contents: list[str]) -> list[Record]:
    return [
        Record(
            id=str(number),
            messages=(
                Message(role="user", content=content),
                Message(role="assistant", content=f"answer to {content}"),
            ),
            source="test",
        )
        for number, content in enumerate(contents)
    ]


def test_sides_are_disjoint_and_complete(workspace: Workspace) -> None:
    records = make_records([f"question number {n} about topic {n * 7}" for n in range(200)])
    validated = write_records(
        str(workspace.snapshots), "validate", records, parent=None, provenance={}
    )
    parts = split(validated, SplitSettings(), workspace)
    train = {record.id for record in parts.train.records()}
    holdout = {record.id for record in parts.holdout.records()}
    assert not train & holdout
    assert train | holdout == {record.id for record in records}
    assert 8 <= len(holdout) <= 40


def test_too_few_to_split(workspace: Workspace) -> None:
    validated = write_records(
        str(workspace.snapshots), "validate", make_records(["one"]), parent=None, provenance={}
    )
    with pytest.raises(DataError, match="too few"):
        split(validated, SplitSettings(), workspace)
