"""The scrub of everything in a conversation that is not plain content: calls, schemas, names."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.contract import load_contract
from data_contracts.findings import Finding
from data_contracts.formats import parse_record
from data_contracts.home_keys import passing_key
from data_contracts.policy import load_policy
from data_contracts.records import Message, Record, ToolCall
from data_contracts.workspace import Workspace
from tasks.ingest import IngestSettings, Source, ingest
from tasks.scrub import BuiltDetector, Job, Scrubbed, ScrubSettings, scrub
from tasks.scrub.engine import Scrubber, scrub_record
from tasks.scrub.json_text import json_values, within
from tasks.split import SplitSettings, split
from tasks.validate import ValidateSettings, validate
from tests.leaks import PLANTED, everywhere, leaks, leaks_in
from tests.tiny import write_jsonl

POLICY = load_policy().model_copy(update={"detector": False})
PATTERNS = Scrubber(POLICY, None)
MAIL = "quentin.planted@example.org"


def parsed(row: dict[str, Any]) -> Record:
    return parse_record(row, source="s", position=0)


def scrubbed(rows: list[Any], tmp_path: Path, workspace: Workspace) -> Scrubbed:
    file = write_jsonl(tmp_path / "raw.jsonl", rows)
    listing = ingest(IngestSettings(sources=(Source(path=str(file)),)), passing_key())
    settings = ScrubSettings.model_validate({"workers": {"count": 0}, "audit": {"records": 0}})
    return scrub(listing, Job(POLICY, None, settings, workspace))


def test_no_byte_of_planted_data_is_left_anywhere(tmp_path: Path, workspace: Workspace) -> None:
    rows = [everywhere(value, number) for number, value in enumerate(PLANTED)]
    result = scrubbed(rows, tmp_path, workspace)
    assert result.report.account.rows_out == len(rows)
    validated = validate(result.snapshot, load_contract(), ValidateSettings(), workspace)
    parts = split(validated.snapshot, SplitSettings(min_holdout=2), workspace)
    assert parts.train.account.rows_out + parts.holdout.account.rows_out == len(rows)
    assert leaks(workspace.home) == {}
    assert not leaks_in(result.report.model_dump_json().encode())
    for record in result.snapshot.records():
        call, empty = record.messages[2].tool_calls
        arguments = json.loads(call.arguments)
        assert list(arguments)[:2] == ["text", "nested"]
        assert (call.name, empty.id) == ("send_mail", "call_2")
        assert record.messages[3].tool_call_id == call.id  # the link holds
        assert json.loads(record.messages[3].content)["sent"]["to"] == arguments["text"]
        (offered,) = json.loads(record.tools or "")
        parameters = offered["function"]["parameters"]
        assert offered["function"]["name"] == "send_mail"
        assert parameters["required"] == ["to"]
        assert parameters["properties"]["to"]["type"] == "string"
        assert parameters["properties"]["to"]["enum"][0] == "nobody"
        # One value, one stand-in: in the name, the arguments, the schema, the rejected side.
        stand_in = arguments["text"]
        assert record.messages[1].name == stand_in
        assert parameters["properties"]["to"]["default"] == stand_in
        assert record.rejected[0].refusal == stand_in
        assert json.loads(record.rejected[1].tool_calls[0].arguments) == arguments
    assert result.report.readings.unread == {"unread": len(PLANTED), "other": len(PLANTED)}


def test_structure_and_names_of_functions_stay_as_they_are() -> None:
    template = '{"user_id" : "u7",  "email_address":"MAIL", "ratio": 1.0, "n":[1e5,null,true]}'
    arguments = template.replace("MAIL", MAIL)
    record = parsed(
        {
            "messages": [
                {"role": "user", "content": f"mail {MAIL}"},
                {
                    "role": "assistant",
                    "tool_calls": [
                        {"function": {"name": "users.get_by_email", "arguments": arguments}}
                    ],
                },
                {"role": "tool", "name": "users.get_by_email", "content": '{"tool_calls": 1}'},
            ]
        }
    )
    clean, found = PATTERNS.record(record)
    call = clean.messages[1].tool_calls[0]
    assert call.arguments == arguments.replace(MAIL, "<EMAIL_ADDRESS_1>")  # not one space moved
    assert (call.name, clean.messages[2].name) == ("users.get_by_email",) * 2
    assert clean.messages[2].content == '{"tool_calls": 1}'
    assert clean.messages[0].content == "mail <EMAIL_ADDRESS_1>"
    assert found.findings == {"EMAIL_ADDRESS": 2}


def test_a_number_that_is_personal_is_replaced_and_the_others_stay() -> None:
    call = ToolCall(name="pay", arguments='{"card": 4929381332664295, "amount": 12.50, "zip": 1}')
    record = Record(id="1", source="s", messages=(Message(role="assistant", tool_calls=(call,)),))
    clean, _ = PATTERNS.record(record)
    assert clean.messages[0].tool_calls[0].arguments == (
        '{"card": "<CREDIT_CARD_1>", "amount": 12.50, "zip": 1}'
    )
    surrogates = POLICY.model_copy(update={"operator": "surrogate"})
    clean, _ = scrub_record(record, PATTERNS.find, surrogates, b"k" * 16)
    paid = json.loads(clean.messages[0].tool_calls[0].arguments)
    assert isinstance(paid["card"], int)
    assert (str(paid["card"])[0], paid["card"] != 4929381332664295) == ("4", True)


@pytest.mark.parametrize("arguments", ["{broken", "", f"to {MAIL}", '"just text"', "[" * 2000])
def test_arguments_that_are_no_json_are_scrubbed_as_text(arguments: str) -> None:
    call = ToolCall(name="f", arguments=arguments)
    record = Record(id="1", source="s", messages=(Message(role="assistant", tool_calls=(call,)),))
    clean, _ = PATTERNS.record(record)
    expected = arguments.replace(MAIL, "<EMAIL_ADDRESS_1>")
    assert clean.messages[0].tool_calls[0].arguments == expected


def test_a_value_found_once_is_replaced_where_it_is_a_whole_value() -> None:
    """`find` knows the name only where words around it tell: as a detector does."""

    def find(text: str) -> list[Finding]:
        at = text.find("I am Laura Quist")
        return [] if at < 0 else [Finding(at + 5, at + 16, "PERSON")]

    record = parsed(
        {
            "messages": [
                {"role": "user", "content": "Hello, I am Laura Quist.", "name": "laura quist"},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        {
                            "function": {
                                "name": "f",
                                "arguments": '{"a": "LAURA QUIST", "b": "quist"}',
                            }
                        }
                    ],
                },
            ]
        }
    )
    clean, _ = scrub_record(record, find, POLICY, None)
    assert clean.messages[0].name == "<PERSON_1>"
    assert clean.messages[1].tool_calls[0].arguments == '{"a": "<PERSON_1>", "b": "<PERSON_2>"}'


def test_names_are_found_by_the_detector_with_nothing_around_them(detector: BuiltDetector) -> None:
    scrubber = Scrubber(load_policy(), Path(detector.path))
    for name in ("Laura Müller", "laura_mueller", "John"):
        record = parsed({"messages": [{"role": "user", "content": "Hi there.", "name": name}]})
        assert scrubber.record(record)[0].messages[0].name != name


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


@given(JSON, st.sampled_from([None, 1]), st.booleans(), st.booleans())
def test_json_stays_the_same_json_whatever_is_in_it(
    value: Any, indent: int | None, ascii_only: bool, schema: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    found = json_values(text, schema=schema)
    if not isinstance(value, dict | list):
        assert found is None
        return
    assert found is not None
    assert found.replaced(lambda one: one.text) == text
    for one in found.values:
        assert found.searched[one.at : one.at + len(one.text)] == one.text
    replaced = found.replaced(lambda _: "X")
    assert shape(json.loads(replaced)) == shape(value)


def shape(value: Any) -> Any:
    """What holds what; names that are data may change, and then fields may fall together."""
    if isinstance(value, dict):
        return "object"
    return [shape(part) for part in value] if isinstance(value, list) else None


@given(st.dictionaries(st.sampled_from(["a", "b_c", "dE"]), st.text(max_size=20), min_size=1))
def test_findings_are_cut_to_the_values_they_lie_in(values: dict[str, str]) -> None:
    found = json_values(json.dumps(values))
    assert found is not None
    everything = [Finding(0, len(found.searched), "PERSON")]
    for one in found.values:
        parts = within(everything, one)
        word = any(sign.isalnum() or sign == "_" for sign in one.text)
        assert [(part.start, part.end) for part in parts] == ([(0, len(one.text))] if word else [])
