"""Rows of every supported shape become records; everything else is rejected by rule."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.digests import digest_json
from data_contracts.errors import RowRejected
from data_contracts.formats import parse_record
from data_contracts.records import Message, Record
from tasks.sources import Row

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def chat(*contents: str) -> list[dict[str, str]]:
    return [
        {"role": "user" if turn % 2 == 0 else "assistant", "content": content}
        for turn, content in enumerate(contents)
    ]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": chat("hi", "hello")}, ["hi", "hello"]),
        ({"prompt": "hi", "response": "hello"}, ["hi", "hello"]),
        ({"instruction": "add", "input": "1 2", "output": "3"}, ["add\n\n1 2", "3"]),
        ({"instruction": "add", "input": "", "output": "3"}, ["add", "3"]),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
            ["hi"],
        ),
    ],
)
def test_supported_shapes(row: dict[str, object], expected: list[str]) -> None:
    record = parse_record(row, source="s", position=3)
    assert [message.content for message in record.messages] == expected
    assert record.id == "s:3"


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({}, "row: no known form of a conversation"),
        ({"text": "hi"}, "row: plain text, not a conversation"),
        ({"input_ids": [1]}, "row: token ids, not text"),
        ({"prompt": "hi"}, "row: a question without an answer"),
        ({"messages": "hi"}, "messages: not a list"),
        ({"messages": []}, "messages: not a list, or empty"),
        ({"messages": ["hi"]}, "messages: a turn is not an object"),
        ({"messages": [{"content": "hi"}]}, "messages.role: missing or not text"),
        ({"messages": [{"role": "jo@x.org", "content": "a"}]}, "messages.role: no such role"),
        ({"messages": [{"role": "user"}]}, "messages.content: missing or not text"),
        ({"messages": [{"role": "user", "content": [{"image": 1}]}]}, "messages.content: "),
        ({"messages": [{"role": "user", "content": 7}]}, "messages.content: missing or not text"),
        ({"messages": chat("\ud800")}, "messages: invalid Unicode (lone surrogate)"),
        ({"messages": chat("a"), "id": "\udfff"}, "messages: invalid Unicode (lone surrogate)"),
    ],
)
def test_rejected_by_rule(row: dict[str, object], rule: str) -> None:
    with pytest.raises(RowRejected) as rejected:
        parse_record(row, source="s", position=0)
    assert rejected.value.rule.startswith(rule)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"{", "row: not JSON"),
        (b"[1]", "row: not a JSON object"),
        (b'{"a": "\xff"}', "row: not valid UTF-8"),
        (b"[" * 100_000, "row: not JSON"),
    ],
)
def test_unreadable_lines(content: bytes, rule: str) -> None:
    with pytest.raises(RowRejected) as rejected:
        Row(0, content).parse("s")
    assert rejected.value.rule == rule


def test_times_become_utc() -> None:
    row = {"messages": chat("a"), "created_at": "2026-03-01T12:00:00+02:00"}
    assert parse_record(row, source="s", position=0).created_at == "2026-03-01T10:00:00+00:00"
    row = {"messages": chat("a"), "created_at": 0}
    assert parse_record(row, source="s", position=0).created_at == "1970-01-01T00:00:00+00:00"


@given(st.dictionaries(st.sampled_from(["id", "messages", "prompt", "response", "x"]), JSON))
def test_any_row_is_a_record_or_rejected_without_its_text(row: dict[str, object]) -> None:
    marker = "s3cret-value"
    row = {**row, "x": marker}
    try:
        record = parse_record(row, source="s", position=0)
    except RowRejected as rejected:
        assert marker not in str(rejected)
        assert rejected.__cause__ is None
    else:
        assert all(isinstance(message.content, str) for message in record.messages)
        assert marker not in record.model_dump_json()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_rejected(line: bytes) -> None:
    try:
        Row(0, line).parse("s")
    except RowRejected as rejected:
        assert rejected.rule


def test_content_digest_ignores_ids() -> None:
    one = parse_record({"id": 1, "messages": chat("a", "b")}, source="s", position=0)
    two = parse_record({"id": 2, "messages": chat("a", "b")}, source="t", position=9)
    other = parse_record({"id": 1, "messages": chat("b", "a")}, source="s", position=0)
    assert one.content_digest == two.content_digest != other.content_digest
    assert json.loads(one.model_dump_json())["id"] == "1"


def test_a_conversation_without_new_fields_keeps_its_digest() -> None:
    """What was held out stays held out: the split goes by this digest."""
    one = parse_record({"id": 1, "messages": chat("a", "b")}, source="s", position=0)
    assert one.content_digest == digest_json([["user", "a"], ["assistant", "b"]])
    told = Message(role="assistant", content="b", reasoning="c")
    others = [
        one.model_copy(update={"messages": (one.messages[0], told)}),
        one.model_copy(update={"tools": "[]"}),
        one.model_copy(update={"rejected": (told,)}),
    ]
    assert len({record.content_digest for record in (one, *others)}) == 4


def test_text_is_what_is_said_and_called() -> None:
    row = {
        "messages": [
            {"role": "user", "content": "Warm?"},
            {
                "role": "assistant",
                "content": "Let me see.",
                "tool_calls": [{"function": {"name": "f", "arguments": {"town": "Oslo"}}}],
            },
            {"role": "assistant", "content": None, "refusal": "No."},
        ]
    }
    record: Record = parse_record(row, source="s", position=0)
    assert record.text == 'Warm?\nLet me see.\nf({"town": "Oslo"})\nNo.'
