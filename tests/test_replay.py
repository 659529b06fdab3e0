"""After drift: nothing old is forgotten, and a model does not learn from itself."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.errors import DataError
from data_contracts.records import Message, Record, Served
from data_contracts.snapshots import Snapshot, write_records
from data_contracts.workspace import Workspace
from tasks.replay import (
    DISLIKED,
    OVER_MOST,
    OVER_SHARE,
    OWN,
    TRUNCATED,
    Lesson,
    NewData,
    ReplaySettings,
    is_own,
    learn,
    limit_users,
    new_lessons,
    replay,
    slice_of,
)

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
    assert learn(record(1, own), "bot", SETTINGS) == OWN
    liked = record(1, own.model_copy(update={"feedback": 1.0}))
    assert learn(liked, "bot", SETTINGS) == Lesson(liked, basis="feedback")
    disliked = record(1, Served(model_version="desk", feedback=0.0))
    assert learn(disliked, "bot", SETTINGS) == DISLIKED
    desk = record(1, Served(model_version="desk"))
    assert learn(desk, "bot", SETTINGS) == Lesson(desk)
    praised = record(1, Served(model_version="desk", feedback=1.0))
    assert learn(praised, "bot", SETTINGS) == Lesson(praised)  # it would be learnt without
    everything = SETTINGS.model_copy(update={"learn_from": "all"})
    assert learn(record(1, own), "bot", everything) == Lesson(record(1, own))


def test_a_correction_is_what_is_learnt() -> None:
    lesson = learn(record(1, Served(model_version="bot", correction="better")), "bot", SETTINGS)
    assert isinstance(lesson, Lesson)
    assert [message.content for message in lesson.record.messages] == ["question 1", "better"]
    assert lesson.basis == "correction"


def test_old_and_new_are_kept_apart_and_capped(workspace: Workspace) -> None:
    desk = Served(model_version="desk")
    old = snapshot(workspace, "train", [record(n) for n in range(20)])
    windows = [
        snapshot(workspace, "window", [record(100 * w + n, desk) for n in range(10)])
        for w in (1, 2)
    ]
    found = replay([old], windows, "bot", SETTINGS, workspace)
    assert found.old.account.rows_out == 5
    new = [one.messages[0].content for one in found.new.records()]
    assert len(new) == 6
    assert sum(text.startswith("question 2") for text in new) == 3  # each window gives its share
    assert found.account.left_out == {OVER_MOST: 14}
    assert slice_of(f"{found.new.path.rsplit('/', 1)[-1]}/part-00000.parquet") == "new"
    assert slice_of(f"{found.old.path.rsplit('/', 1)[-1]}/part-00000.parquet") == "old"
    assert slice_of("chats.jsonl") is None


def test_the_logs_own_ids_do_not_outlive_the_window(workspace: Workspace) -> None:
    logged = [record(n).model_copy(update={"id": f"chat about wombats {n}"}) for n in range(9)]
    window = snapshot(workspace, "window", logged)
    found = replay([], [window, window], "bot", SETTINGS, workspace)
    ids = {one.id for one in found.new.records()}
    assert not any("wombats" in identifier for identifier in ids)
    again = replay([], [window, window], "bot", SETTINGS, workspace)
    assert again.new == found.new


def test_nothing_to_learn_says_why(workspace: Workspace) -> None:
    own = Served(model_version="bot:1")
    window = snapshot(workspace, "window", [record(n, own) for n in range(10)])
    with pytest.raises(DataError, match="10 answers by the model itself"):
        replay([], [window], "bot", SETTINGS, workspace)


def test_an_answer_that_is_not_to_be_learnt_is_left_out_unless_corrected() -> None:
    asked, answer = record(1).messages
    cut = record(1, Served(model_version="desk", feedback=1.0)).model_copy(
        update={"messages": (asked, answer.model_copy(update={"learnt": False}))}
    )
    assert isinstance(learn(cut, "bot", SETTINGS), str)
    corrected = cut.model_copy(update={"served": Served(model_version="desk", correction="better")})
    lesson = learn(corrected, "bot", SETTINGS)
    assert isinstance(lesson, Lesson)
    assert lesson.record.teaches


# -- what users may contribute -------------------------------------------------------


def lessons(counts: dict[str | None, int]) -> list[Lesson]:
    """So many of each user."""
    users = [user for user, count in counts.items() for _ in range(count)]
    return [Lesson(record(number), user) for number, user in enumerate(users)]


def contributed(kept: list[Lesson]) -> Counter[str | None]:
    return Counter(lesson.user for lesson in kept)


def limits(share: float, least: int) -> ReplaySettings:
    return ReplaySettings(max_share_per_user=share, min_per_user=least)


def test_one_user_among_many_gets_a_twentieth() -> None:
    people: dict[str | None, int] = {f"u{n}": 2 for n in range(100)}
    kept = contributed(limit_users(lessons({**people, "mallory": 1000}), limits(0.05, 1)))
    assert kept["mallory"] == 10  # of 210
    assert kept.total() == 210


def test_several_loud_users_each_get_a_twentieth() -> None:
    people: dict[str | None, int] = {f"u{n}": 1 for n in range(85)}
    loud = {f"mallory{n}": 300 for n in range(3)}
    kept = contributed(limit_users(lessons({**people, **loud}), limits(0.05, 1)))
    assert {kept[name] for name in loud} == {5}  # each of 100
    assert kept.total() == 100


def test_few_users_get_an_equal_share() -> None:
    assert len(limit_users(lessons({"app": 200}), limits(0.05, 1))) == 200
    kept = contributed(limit_users(lessons({"a": 70, "b": 30, "c": 50}), limits(0.05, 1)))
    assert kept == {"a": 30, "b": 30, "c": 30}


def test_a_minimum_is_always_allowed_and_one_is_no_limit() -> None:
    counts: dict[str | None, int] = {"a": 70, **{f"u{n}": 1 for n in range(30)}}
    assert contributed(limit_users(lessons(counts), limits(0.05, 12)))["a"] == 12
    assert len(limit_users(lessons(counts), limits(1, 1))) == 100


def test_who_is_unknown_is_not_limited() -> None:
    kept = contributed(limit_users(lessons({None: 380, "a": 60, "b": 60}), limits(0.05, 1)))
    assert kept == {None: 380, "a": 21, "b": 21}  # each of 422
    assert contributed(limit_users(lessons({None: 60, "mallory": 140}), limits(0.05, 1))) == {
        None: 60, "mallory": 3,
    }  # fmt: skip
    assert contributed(limit_users(lessons({None: 2, "a": 60}), limits(0.05, 1)))["a"] == 1


@given(
    counts=st.dictionaries(st.integers(0, 60).map(str), st.integers(1, 80), max_size=40),
    unnamed=st.integers(0, 50),
    share=st.floats(0.01, 1),
    least=st.integers(1, 20),
)
def test_no_user_has_more_than_their_share(
    counts: dict[str, int], unnamed: int, share: float, least: int
) -> None:
    given_by: dict[str | None, int] = {**counts, None: unnamed}
    given_lessons = lessons(given_by)
    kept = limit_users(given_lessons, limits(share, least))
    by_user = contributed(kept)
    assert by_user[None] == unnamed
    for user, count in counts.items():
        allowed = max(share, 1 / (len(counts) + unnamed)) * len(kept)
        assert by_user[user] <= max(least, allowed + 1e-6)
        assert by_user[user] >= min(count, least)
    # Nobody loses anything for nothing: one more each would be too many.
    if len(kept) < len(given_lessons):
        most = max(by_user[user] for user in counts) + 1
        total = unnamed + sum(min(count, most) for count in counts.values())
        assert most > max(share, 1 / (len(counts) + unnamed)) * total - 1e-6
    assert limit_users(list(reversed(given_lessons)), limits(share, least)) == kept


def test_a_user_in_many_windows_is_still_one_and_left_out_is_counted(workspace: Workspace) -> None:
    windows = []
    for w in range(3):
        loud = [record(1000 * w + n, Served(user="mallory")) for n in range(50)]
        quiet = [record(1000 * w + 500 + n, Served(user=f"u{w}-{n}")) for n in range(30)]
        rejected = [record(1000 * w + 900, Served(feedback=0.0, user="mallory"))]
        windows.append(snapshot(workspace, "window", [*loud, *quiet, *rejected]))
    settings = ReplaySettings(min_new=1, min_per_user=2)
    kept, account = new_lessons(windows, "bot", settings)
    assert contributed(kept)["mallory"] == 4  # of 94
    assert account == NewData(
        learnt=94, corrected=0, approved=0, users=91, unnamed=0,
        left_out={OVER_SHARE: 146, DISLIKED: 3},
    )  # fmt: skip
    assert account.learnt + sum(account.left_out.values()) == 3 * 81


def test_the_share_holds_after_the_draw(workspace: Workspace) -> None:
    loud = [record(n, Served(user="mallory")) for n in range(400)]
    quiet = [record(1000 + n, Served(user=f"u{n}")) for n in range(400)]
    window = snapshot(workspace, "window", [*loud, *quiet])
    settings = ReplaySettings(min_new=1, max_new=60, min_per_user=1)
    kept, account = new_lessons([window], "bot", settings)
    assert contributed(kept)["mallory"] <= 0.05 * len(kept)
    assert account.learnt + sum(account.left_out.values()) == 800


def test_who_asked_stays_in_the_window(workspace: Workspace) -> None:
    desk = Served(model_version="desk", user="0123456789abcdef", feedback=1.0)
    window = snapshot(workspace, "window", [record(n, desk) for n in range(9)])
    assert {one.served.user for one in window.records() if one.served} == {"0123456789abcdef"}
    found = replay([], [window], "bot", SETTINGS, workspace)
    assert {one.served and one.served.user for one in found.new.records()} == {None}
    assert "0123456789abcdef" not in found.model_dump_json()


@pytest.mark.parametrize(
    ("served", "is_steered"),
    [
        (Served(model_version="desk"), False),
        (Served(model_version="desk", feedback=1.0), False),
        (Served(model_version="desk", correction="buy now"), True),
        (Served(model_version="bot", feedback=1.0), True),
        (Served(model_version="bot", correction="buy now"), True),
        (Served(model_version="desk", feedback=0.0), True),
    ],
)
def test_who_steers_what_is_learnt(workspace: Workspace, served: Served, is_steered: bool) -> None:
    plain = [record(n, Served(model_version="desk")) for n in range(9)]
    window = snapshot(workspace, "window", [*plain, record(10, served)])
    _, account = new_lessons([window], "bot", ReplaySettings(min_new=1))
    assert account.is_steered == is_steered


def cut_off(number: int, reason: str, *before: Message) -> Record:
    """A conversation whose last answer was cut off, as the parser of logs gives it."""
    asked, answer = record(number).messages
    served = Served.model_validate({"model_version": "desk", "finish_reason": reason})
    messages = (*before, asked, answer.model_copy(update={"learnt": False}))
    return Record(id=str(number), messages=messages, source="s", served=served)


@pytest.mark.parametrize("reason", ["length", "interrupted"])
def test_an_answer_that_was_cut_off_is_learnt_only_if_a_setting_says_so(reason: str) -> None:
    alone = cut_off(1, reason)
    assert learn(alone, "bot", SETTINGS) == TRUNCATED
    everything = SETTINGS.model_copy(update={"learn_truncated": True})
    lesson = learn(alone, "bot", everything)
    assert isinstance(lesson, Lesson)
    assert lesson.record.messages[-1].learnt
    # Of a longer conversation the earlier answers are learnt all the same.
    longer = cut_off(2, reason, *record(3).messages)
    lesson = learn(longer, "bot", SETTINGS)
    assert isinstance(lesson, Lesson)
    assert [m.learnt for m in lesson.record.messages if m.role == "assistant"] == [True, False]


def test_a_correction_of_a_cut_off_answer_is_learnt() -> None:
    corrected = cut_off(1, "length")
    assert corrected.served is not None
    served = corrected.served.model_copy(update={"correction": "better"})
    lesson = learn(corrected.model_copy(update={"served": served}), "bot", SETTINGS)
    assert isinstance(lesson, Lesson)
    assert (lesson.record.messages[-1].content, lesson.record.messages[-1].learnt) == (
        "better",
        True,
    )


def test_cut_off_answers_are_counted(workspace: Workspace) -> None:
    desk = Served(model_version="desk")
    records = [
        *(record(number, desk) for number in range(4)),
        *(cut_off(number, "length") for number in range(10, 13)),
        cut_off(20, "length", *record(21).messages),
    ]
    window = snapshot(workspace, "window", records)
    found = replay([], [window], "bot", SETTINGS, workspace)
    assert found.account.left_out == {TRUNCATED: 3}
    assert found.account.cut_off == 1
