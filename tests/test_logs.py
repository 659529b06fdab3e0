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

from data_contracts import row_limits
from data_contracts.errors import DataError, RowRejected
from data_contracts.inference_logs import NO_LOG, parse_inference_log
from data_contracts.log_formats.answers import ERROR, NO_ANSWER
from data_contracts.log_formats.questions import NO_QUESTION
from data_contracts.log_users import user_of
from data_contracts.records import Record
from data_contracts.row_limits import TOO_LONG
from data_contracts.snapshots import RECORD_SCHEMA, as_row
from tasks import logs, sources
from tasks.logs import (
    CountedBefore,
    LogKeys,
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
NO_USER = "request.messages: no user message"
REQUEST = {"messages": [{"role": "user", "content": "hi"}]}
RESPONSE = {"choices": [{"message": {"role": "assistant", "content": "hello"}}]}
KEYS = LogKeys(records=KEY, users=b"of a home's users", rows=b"r" * 32)


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
    record = parse_inference_log(log_row(1_700_000_000, "hi", "hello"), source="f").record
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
    record = parse_inference_log(row, source="f").record
    assert record.messages[-1].tool_calls[0].name == "f"
    assert record.created_at == "2023-11-14T22:13:20+00:00"
    assert record.served is not None
    assert (record.served.feedback, record.served.correction) == (1.0, "hello")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"timestamp": None}, "timestamp: missing"),
        ({"timestamp": "soon"}, "timestamp: not a timestamp"),
        ({"timestamp": 10**400}, "timestamp: not a timestamp"),
        ({"timestamp": "01/09/2026 08:00"}, "timestamp: day and month cannot be told apart"),
        ({"request": "{"}, "request: not JSON"),
        ({"request": {"model": "m"}}, NO_QUESTION),
        ({"request": {"messages": [{"role": "system", "content": "s"}]}}, NO_USER),
        ({"response": {"choices": []}}, "response.choices: missing or empty"),
        ({"response": {"answer": "secret text"}}, NO_ANSWER),
        ({"response": {"error": {"message": "secret text"}}}, ERROR),
        ({"request": None}, NO_LOG),
    ],
)
def test_a_broken_record_is_named_by_its_rule(change: dict[str, Any], rule: str) -> None:
    with pytest.raises(RowRejected) as caught:
        parse_inference_log({**log_row(1, "hi", "hello"), **change}, source="f")
    assert caught.value.rule == rule


@pytest.mark.parametrize(
    ("change", "unknown"),
    [
        ({"feedback": "secret text"}, "feedback"),
        ({"feedback": {"score": 10**400}}, "feedback"),
        ({"feedback": {"score": "up", "correction": [1]}}, "feedback.correction"),
        ({"feedback": ["up", "down"]}, "feedback"),
        ({"workload_id": "ann@example.com; drop"}, "workload_id"),
        ({"workload_id": "Customer Support (EU)"}, "workload_id"),
        ({"workload_id": "x" * 200}, "workload_id"),
        ({"model_version": {"name": "secret text"}, "request": REQUEST}, "model_version"),
        ({"latency_ms": float("nan")}, "latency_ms"),
        ({"latency_ms": 10**400}, "latency_ms"),
        ({"latency_ms": -1}, "latency_ms"),
        ({"latency_ms": "fast"}, "latency_ms"),
        ({"latency_ms": True}, "latency_ms"),
        ({"usage": {"prompt_tokens": 2**63}}, "usage.prompt_tokens"),
        ({"usage": {"completion_tokens": {}}}, "usage.completion_tokens"),
        ({"usage": "many"}, "usage"),
        ({"id": {"secret": "text"}, "response": RESPONSE}, "id"),
        ({"id": "half \ud83d of one", "response": RESPONSE}, "id"),
        ({"id": "x" * 10_000, "response": RESPONSE}, "id"),
        ({"request": {**REQUEST, "tools": ["secret text"]}}, "tools"),
    ],
)
def test_an_odd_optional_field_is_unknown_and_the_record_stays(
    change: dict[str, Any], unknown: str
) -> None:
    reading = parse_inference_log({**log_row(1, "hi", "hello"), **change}, source="f")
    assert reading.readings.unknown == {unknown: 1}
    assert [message.content for message in reading.record.messages] == ["hi", "hello"]
    assert "secret" not in reading.model_dump_json()
    # Whatever they are, a snapshot can hold them.
    pa.Table.from_pylist([as_row(reading.record)], RECORD_SCHEMA)


def test_what_can_be_understood_is() -> None:
    change = {"latency_ms": "812.5", "usage": {"prompt_tokens": "9"}, "feedback": "thumbs_up"}
    reading = parse_inference_log({**log_row(1, "hi", "hello"), **change}, source="f")
    served = reading.record.served
    assert served is not None
    assert (served.latency_ms, served.prompt_tokens, served.feedback) == (812.5, 9, 1.0)
    assert not reading.readings.unknown


def test_fields_that_nothing_reads_are_named_unless_their_name_may_be_text() -> None:
    row = log_row(1, "hi", "hello", region="eu", **{"call me at 555 0100": 1, "nothing": None})
    row["request"]["temperature"] = 0.2
    reading = parse_inference_log(row, source="f")
    assert reading.readings.unread == {"region": 1, "other": 1, "request.temperature": 1}


SCALARS = st.none() | st.text() | st.floats()
PARTS = st.sampled_from(["messages", "choices", "score", "usage"])
FIELDS = st.sampled_from(["timestamp", "request", "response", "feedback", "usage"])


@given(
    st.dictionaries(
        FIELDS, SCALARS | st.dictionaries(PARTS, SCALARS | st.lists(SCALARS, max_size=3))
    )
)
def test_garbage_is_a_rejection_or_a_record(row: dict[str, Any]) -> None:
    try:
        reading = parse_inference_log(row, source="f")
    except RowRejected as rejected:
        assert rejected.__cause__ is None
    else:
        assert reading.record.served is not None


def test_damage_loses_no_good_record(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    write_log(logs / "good.jsonl", hour(40, 3))
    (logs / "empty.jsonl").write_text("")
    (logs / "binary.jsonl").write_bytes(b"\xf0\x28garbage\n" * 3)
    (logs / "utf16.jsonl").write_text("{}\n" * 3, encoding="utf-16")
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
    assert uris == {"broken.parquet", "cut.jsonl.gz", "utf16.jsonl"}
    hours = [entry.at // 3600 for entry in pending.entries]
    third = int(NOW.timestamp()) // 3600 - 3
    assert hours.count(third) == 41
    assert hours.count(third - 1) == 40
    assert hours.count(third + 1) > 1000  # of the file that was cut
    assert pending.incomplete == 1
    assert rules(pending.quarantined) == {
        "row: not valid UTF-8": 3,
        "timestamp: in the future": 1,
        NO_LOG: 1,
    }


def test_a_row_of_any_length_is_never_held_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sources, row_limits):
        monkeypatch.setattr(module, "MAX_ROW_BYTES", 1 << 21)
    file = tmp_path / "huge.jsonl"
    good = json.dumps(hour(1, 3)[0]).encode()
    file.write_bytes(good + b"\n" + b"x" * (5 << 20) + b"\n" + good.replace(b"3-0", b"3-1") + b"\n")
    pending = looked(file)
    assert len(pending.entries) == 2
    assert rules(pending.quarantined) == {TOO_LONG: 1}


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
    assert parse_inference_log(row, source="f").record.id == ""
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
    records = [record for _, record in read(pending.files, windows[0].conversations, KEYS)]
    assert {len(record.messages) for record in records if isinstance(record, Record)} == {6}
    assert len(records) == 35


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
    users: dict[bytes, set[str | None]] = {}
    for key in (KEY, b"another home"):
        keys = LogKeys(records=KEY, users=key, rows=KEY)
        found = [record for _, record in read(pending.files, windows[0].entries, keys)]
        users[key] = {
            one.served.user for one in found if isinstance(one, Record) and one.served is not None
        }
    assert all(len(names) == 3 for names in users.values())
    assert not users[KEY] & users[b"another home"]
    assert all(re.fullmatch("[0-9a-f]{16}", str(name)) for name in users[KEY])
    assert "person" not in repr(users)


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


def test_files_that_change_between_the_passes_are_an_error_and_lose_nothing(
    tmp_path: Path,
) -> None:
    write_log(tmp_path / "a.jsonl", hour(40, 3))
    pending = looked(tmp_path)
    (tmp_path / "a.jsonl").rename(tmp_path / "a.jsonl.1")
    with pytest.raises(DataError, match="rotated"):
        list(read(pending.files, pending.entries, KEYS))
    write_log(tmp_path / "a.jsonl", hour(40, 5))
    with pytest.raises(DataError, match="changed"):
        list(read(pending.files, pending.entries, KEYS))
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(DataError, match="changed"):
        list(read(pending.files, pending.entries, KEYS))


def test_a_window_that_is_large_in_bytes_is_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "SAMPLE_BYTES", 20_000)
    rows = hour(40, 3)
    for row in rows:
        row["request"]["messages"][0]["content"] += "x" * 2000
    write_log(tmp_path / "a.jsonl", rows)
    windows, _ = cut(looked(tmp_path), SETTINGS, NOW)
    assert 5 <= len(windows[0].sample(50)) <= 10


def test_the_same_turns_with_other_calls_of_tools_are_not_the_same_conversation(
    tmp_path: Path,
) -> None:
    rows = []
    for number, row in enumerate(hour(40, 3)):
        row["request"] = {"messages": [{"role": "user", "content": "look"}]}
        call = {"function": {"name": "f", "arguments": json.dumps({"n": number})}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        row["response"]["choices"] = [{"message": message}]
        rows.append(row)
    # The next request of the first of them, with its arguments laid out in another way.
    again = [
        {"role": "user", "content": "look"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '{"n":0}'}}]},
        {"role": "tool", "content": "found"},
    ]
    rows.append(log_row(rows[-1]["timestamp"] + 1, "", "done"))
    rows[-1]["request"] = {"messages": again}
    write_log(tmp_path / "a.jsonl", rows)
    windows, _ = cut(looked(tmp_path), SETTINGS, NOW)
    assert (len(windows[0].entries), len(windows[0].conversations)) == (41, 40)
