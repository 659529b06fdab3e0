"""After drift: nothing old is forgotten, and a model does not learn from itself."""

import pytest

from data_contracts.errors import DataError
from data_contracts.records import Message, Record, Served
from data_contracts.snapshots import Snapshot, write_records
from data_contracts.workspace import Workspace
from tasks.replay import ReplaySettings, is_own, learn, replay, slice_of

SETTINGS = ReplaySettings(min_new=3, max_old=5, max_new=6)


def record(number: int, served: Served | None = None) -> Record:
    messages = (
        Message(role="user", content=f"question {number}"),
        Message(role="assistant", content=f"answer {number}"),
    )
    return Record(id=str(number), messages=messages, source="s", served=served)


def snapshot(workspace: Workspace, name: str, records: list[Record]) -> Snapshot:
    return write_records(str(workspace.snapshots), name, records, parent=None, provenance={})


def test_whose_answer_it_was() -> None:
    for name in ("bot", "bot:3", "bot/3", "models:/bot@champion"):
        assert is_own(name, "bot")
    for other in (None, "botany", "gpt", "robot:3"):
        assert not is_own(other, "bot")


def test_own_answers_need_approval() -> None:
    own = Served(model_version="bot:3")
    assert learn(record(1, own), "bot", SETTINGS) == (
        "answers by the model itself that nobody approved of"
    )
    liked = record(1, own.model_copy(update={"feedback": 1.0}))
    assert learn(liked, "bot", SETTINGS) == liked
    disliked = record(1, Served(model_version="desk", feedback=0.0))
    assert learn(disliked, "bot", SETTINGS) == "answers that users disliked"
    desk = record(1, Served(model_version="desk"))
    assert learn(desk, "bot", SETTINGS) == desk
    everything = SETTINGS.model_copy(update={"learn_from": "all"})
    assert learn(record(1, own), "bot", everything) == record(1, own)


def test_a_correction_is_what_is_learnt() -> None:
    lesson = learn(record(1, Served(model_version="bot", correction="better")), "bot", SETTINGS)
    assert isinstance(lesson, Record)
    assert [message.content for message in lesson.messages] == ["question 1", "better"]


def test_old_and_new_are_kept_apart_and_capped(workspace: Workspace) -> None:
    desk = Served(model_version="desk")
    old = snapshot(workspace, "train", [record(n) for n in range(20)])
    windows = [
        snapshot(workspace, "window", [record(100 * w + n, desk) for n in range(10)])
        for w in (1, 2)
    ]
    found = replay([old], windows, "bot", SETTINGS, workspace)
    assert found.old.account.rows_out == 5
    new = [int(one.id) for one in found.new.records()]
    assert len(new) == 6
    assert sum(number >= 200 for number in new) == 3  # each window gives its share
    assert slice_of(f"{found.new.path.rsplit('/', 1)[-1]}/part-00000.parquet") == "new"
    assert slice_of(f"{found.old.path.rsplit('/', 1)[-1]}/part-00000.parquet") == "old"
    assert slice_of("chats.jsonl") is None


def test_nothing_to_learn_says_why(workspace: Workspace) -> None:
    own = Served(model_version="bot:1")
    window = snapshot(workspace, "window", [record(n, own) for n in range(10)])
    with pytest.raises(DataError, match="10 answers by the model itself"):
        replay([], [window], "bot", SETTINGS, workspace)
