"""Inference logs: every shape loads, nothing good is lost, nothing is counted twice."""

import gzip
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.errors import DataError, RowRejected
from data_contracts.inference_logs import parse_inference_log
from data_contracts.log_users import user_of
from tasks import sources
from tasks.logs import (
    CountedBefore,
    Pending,
    WatchSettings,
    cut,
    look,
    quarantine_digest,
    read,
    rules,
)
from tests.logs import NOW, hour, log_row, write_log

KEY = b"k" * 32
SETTINGS = WatchSettings(min_records=30, max_records=50)
KEY = b"of a home's users"


def looked(
    path: Path,
    known: set[bytes] | None = None,
    newest: int | None = None,
    since: int | None = None,
) -> Pending:
    seen = known or set()
    before = CountedBefore(
        key=KEY,
        known=lambda digests: seen & set(digests),
        finished=lambda _: False,
        newest=newest,
        since=since,
    )
    return look(str(path), SETTINGS, now=NOW, before=before)


def test_a_flywheel_record_loads_and_says_nobody() -> None:
    record = parse_inference_log(log_row(1_700_000_000, "hi", "hello"), source="f")
    assert [m.content for m in record.messages] == ["hi", "hello"]
    assert record.created_at == "2023-11-14T22:13:20+00:00"
    assert "somebody" not in record.model_dump_json()


def test_request_and_response_as_text_tool_calls_feedback_and_milliseconds() -> None:
    row = log_row(1_700_000_000_000, "hi", "x", feedback={"score": "up", "correction": "hello"})
    row["response"]["choices"][0]["message"] = {
        "content": None,
        "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
    }
    row["request"], row["response"] = json.dumps(row["request"]), json.dumps(row["response"])
    record = parse_inference_log(row, source="f")
    assert record.messages[-1].tool_calls[0].name == "f"
    assert record.created_at == "2023-11-14T22:13:20+00:00"
    assert record.served is not None
    assert (record.served.feedback, record.served.correction) == (1.0, "hello")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"timestamp": None}, "timestamp: missing"),
        ({"timestamp": "soon"}, "timestamp: not a timestamp"),
        ({"request": "{"}, "request: not JSON"),
        ({"response": {"choices": []}}, "response.choices: missing or empty"),
        ({"feedback": "secret text"}, "feedback: not a number"),
        ({"workload_id": "ann@example.com; drop"}, "workload_id: not a short name"),
        ({"latency_ms": float("nan")}, "latency_ms: not a number"),
    ],
)
def test_a_broken_record_is_named_by_its_rule(change: dict[str, Any], rule: str) -> None:
    with pytest.raises(RowRejected) as caught:
        parse_inference_log({**log_row(1, "hi", "hello"), **change}, source="f")
    assert caught.value.rule == rule


SCALARS = st.none() | st.text() | st.floats()
PARTS = st.sampled_from(["messages", "choices", "score", "usage"])
FIELDS = st.sampled_from(["timestamp", "request", "response", "feedback", "usage"])


@given(
    st.dictionaries(
        FIELDS, SCALARS | st.dictionaries(PARTS, SCALARS | st.lists(SCALARS, max_size=3))
    )
)
def test_nothing_but_a_rejection_ever_comes_of_garbage(row: dict[str, Any]) -> None:
    with pytest.raises(RowRejected):
        parse_inference_log(row, source="f")


def test_damage_loses_no_good_record(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    write_log(logs / "good.jsonl", hour(40, 3))
    (logs / "empty.jsonl").write_text("")
    (logs / "binary.jsonl").write_bytes(b"\xff\xfe\x00garbage\n" * 3)
    (logs / "broken.parquet").write_bytes(b"PAR1 not really")
    whole = gzip.compress("".join(json.dumps(row) + "\n" for row in hour(4000, 2)).encode())
    (logs / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    pq.write_table(
        pa.table(
            {
                "timestamp": [row["timestamp"] for row in hour(40, 4)],
                "request": [json.dumps(row["request"]) for row in hour(40, 4)],
                "response": [row["response"] for row in hour(40, 4)],
            }
        ),
        logs / "good.parquet",
    )
    future = (NOW + timedelta(days=400)).timestamp()
    with (logs / "mixed.jsonl").open("w") as file:
        file.write(json.dumps(log_row(future, "hi", "from the future")) + "\n")
        file.write(json.dumps({"messages": [{"role": "user", "content": "not a log"}]}) + "\n")
        file.write(json.dumps(hour(41, 3)[40]) + "\n")
        file.write('{"timestamp": 1, "requ')  # still being written
    pending = looked(logs)
    uris = {uri.rsplit("/", 1)[-1] for uri in pending.damaged}
    assert uris == {"broken.parquet", "cut.jsonl.gz"}
    hours = [entry.at // 3600 for entry in pending.entries]
    third = int(NOW.timestamp()) // 3600 - 3
    assert hours.count(third) == 41
    assert hours.count(third - 1) == 40
    assert hours.count(third + 1) > 1000  # of the file that was cut
    assert pending.incomplete == 1
    assert rules(pending.quarantined) == {
        "row: not valid UTF-8": 3,
        "timestamp: in the future": 1,
        "timestamp: missing": 1,
    }


def test_a_row_of_any_length_is_never_held_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_ROW_BYTES", 1 << 21)
    file = tmp_path / "huge.jsonl"
    good = json.dumps(hour(1, 3)[0]).encode()
    file.write_bytes(good + b"\n" + b"x" * (5 << 20) + b"\n" + good.replace(b"3-0", b"3-1") + b"\n")
    pending = looked(file)
    assert len(pending.entries) == 2
    assert rules(pending.quarantined) == {"row: longer than 2 MiB": 1}


def test_a_bucket_of_hourly_files() -> None:
    with fsspec.open("memory://bucket/logs/10.jsonl.gz", "wb", compression="gzip") as file:
        file.write("".join(json.dumps(row) + "\n" for row in hour(40, 2)).encode())
    frame = pa.Table.from_pylist([{**row, "feedback": 1} for row in hour(40, 1)])
    with fsspec.open("memory://bucket/logs/11.parquet", "wb") as file:
        pq.write_table(frame, file)
    before = CountedBefore(key=KEY, known=lambda _: set(), finished=lambda _: False)
    pending = look("memory://bucket/logs", SETTINGS, now=NOW, before=before)
    assert not pending.quarantined
    windows, _ = cut(pending, SETTINGS, NOW)
    assert [len(window.entries) for window in windows] == [40, 40]
    assert sum(1 for _ in read(pending.files, windows[1].entries, KEY)) == 40


def test_duplicates_late_and_known_records_are_told_apart(tmp_path: Path) -> None:
    rows = hour(40, 3)
    write_log(tmp_path / "a.jsonl", rows)
    write_log(tmp_path / "b.jsonl", [*rows[:5], *hour(40, 200)])
    newest = int(NOW.timestamp())
    first = looked(tmp_path, newest=newest)
    assert (len(first.entries), first.duplicates, first.late) == (40, 5, 40)
    again = looked(tmp_path, {entry.digest for entry in first.entries}, newest)
    assert (len(again.entries), again.known) == (0, 40)


def test_names_of_records_and_windows_depend_on_the_key(tmp_path: Path) -> None:
    """And which records are the same does not."""
    rows = hour(40, 3)
    write_log(tmp_path / "a.jsonl", [*rows, *rows[:7], "broken"])
    before = CountedBefore(key=b"other" * 8, known=lambda _: set(), finished=lambda _: False)
    other = look(str(tmp_path), SETTINGS, now=NOW, before=before)
    mine = looked(tmp_path)
    assert (mine.duplicates, other.duplicates) == (7, 7)
    assert not {e.digest for e in mine.entries} & {e.digest for e in other.entries}
    assert quarantine_digest(mine.quarantined[0]) != quarantine_digest(other.quarantined[0])
    ids = [cut(pending, SETTINGS, NOW)[0][0].id for pending in (mine, other, looked(tmp_path))]
    assert ids[0] == ids[2] != ids[1]


def test_after_a_lost_key_the_past_is_taken_for_counted(tmp_path: Path) -> None:
    write_log(tmp_path / "a.jsonl", [*hour(40, 3), *hour(40, 2)])
    third = int(NOW.timestamp()) // 3600 * 3600 - 3 * 3600
    pending = looked(tmp_path, newest=third + 3600, since=third + 3600)
    assert (pending.late, len(pending.entries)) == (40, 40)
    assert looked(tmp_path, newest=third + 3600).late == 0


def test_a_record_without_an_id_gets_none_of_its_raw_text(tmp_path: Path) -> None:
    row = log_row(NOW.timestamp() - 9, "hi", "call +1 415 555 2671")
    del row["response"]["id"]
    write_log(tmp_path / "a.jsonl", [row, row])
    assert parse_inference_log(row, source="f").id == ""
    pending = looked(tmp_path)
    assert (len(pending.entries), pending.duplicates) == (1, 1)


def test_broken_rows_are_known_too(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("nonsense\n")
    first = looked(file)
    assert len(first.quarantined) == 1
    assert not looked(file, {quarantine_digest(first.quarantined[0])}).quarantined


def test_windows_wait_for_their_hour_and_for_enough(tmp_path: Path) -> None:
    rows = [*hour(10, 5), *hour(25, 4), *hour(40, 2), *hour(29, 1), *hour(40, 0)]
    write_log(tmp_path / "a.jsonl", rows[::-1])
    pending = looked(tmp_path)
    windows, waiting = cut(pending, SETTINGS, NOW)
    assert [len(window.entries) for window in windows] == [35, 40]
    # The last full hour has too few, the running one is not over (and partly in the future).
    assert waiting == len(pending.entries) - 75
    assert windows[0].end <= windows[1].start
    assert cut(pending, SETTINGS, NOW)[0][0].id == windows[0].id


def test_only_the_last_request_of_a_conversation_counts(tmp_path: Path) -> None:
    start = int(NOW.timestamp()) // 3600 * 3600 - 7200
    rows = []
    for chat in range(35):
        messages: list[dict[str, str]] = []
        for turn in range(3):
            messages.append({"role": "user", "content": f"chat {chat} turn {turn}"})
            row = log_row(start + chat + turn, "", f"answer {turn}")
            row["request"] = {"messages": list(messages)}
            row["response"]["id"] = f"{chat}-{turn}"
            rows.append(row)
            messages.append({"role": "assistant", "content": f"answer {turn}"})
    write_log(tmp_path / "a.jsonl", rows)
    pending = looked(tmp_path)
    windows, _ = cut(pending, SETTINGS, NOW)
    assert [(len(w.entries), len(w.conversations)) for w in windows] == [(105, 35)]
    records = [record for _, record in read(pending.files, windows[0].conversations, KEY)]
    assert {len(record.messages) for record in records} == {6}


def test_a_sample_is_stated_and_the_same_every_time(tmp_path: Path) -> None:
    write_log(tmp_path / "a.jsonl", hour(200, 3))
    windows, _ = cut(looked(tmp_path), SETTINGS, NOW)
    chosen = windows[0].sample(50)
    assert len(chosen) == 50
    assert chosen == windows[0].sample(50)
    assert set(windows[0].sample(20)) <= set(chosen)


def test_users_are_pseudonyms_of_one_home(tmp_path: Path) -> None:
    rows = [{**row, "client_id": f"person{n % 3}"} for n, row in enumerate(hour(45, 3))]
    write_log(tmp_path / "a.jsonl", rows)
    pending = looked(tmp_path)
    windows, _ = cut(pending, SETTINGS, NOW)
    read_with = {
        key: [record.served for _, record in read(pending.files, windows[0].entries, key)]
        for key in (KEY, b"another home")
    }
    users = {key: {one.user for one in found if one} for key, found in read_with.items()}
    assert all(len(names) == 3 for names in users.values())
    assert not users[KEY] & users[b"another home"]
    assert all(re.fullmatch("[0-9a-f]{16}", str(name)) for name in users[KEY])
    assert "person" not in repr(read_with)


@pytest.mark.parametrize(
    "more",
    [
        {"client_id": "ann"},
        {"user": "ann", "client_id": "an app"},
        {"metadata": {"user_id": "ann"}, "client_id": "an app"},
        {"request": {"user": "ann", "messages": []}},
        {"request": {"safety_identifier": "ann", "user": "old", "messages": []}},
        {"request": {"metadata": {"user_id": "ann"}}, "client_id": "an app"},
        {"request": json.dumps({"user": "ann"})},
        {"metadata": json.dumps({"userId": "ann"})},
        {"user": "", "client_id": "ann"},
        {"user": ["ann"], "client_id": "ann"},
        {"user": True, "end_user": "ann"},
    ],
)
def test_where_logs_name_the_user(more: dict[str, Any]) -> None:
    row = {**log_row(1, "hi", "hello"), **{"client_id": None}, **more}
    assert user_of(row, KEY) == user_of({"client_id": "ann"}, KEY)
    assert user_of(row, KEY) is not None


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"user": None},
        {"client_id": 1.5},
        {"request": "{" * 100_000},
        {"request": "[" * 100_000 + "]" * 100_000},
        {"request": "\x00", "metadata": 7},
        {"user": {"name": "ann"}},
    ],
)
def test_rows_that_name_nobody(row: dict[str, Any]) -> None:
    assert user_of(row, KEY) is None


def test_odd_names_are_still_names() -> None:
    odd = ["\ud800", "a" * 1_000_000, 7, 0, -1, "7", "\x1b[31m", " "]
    found = [user_of({"user": name}, KEY) for name in odd]
    assert all(re.fullmatch("[0-9a-f]{16}", str(name)) for name in found)
    assert len(set(found)) == len(odd) - 1  # 7 and "7" are one


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        looked(tmp_path / "nowhere")
