"""Every format of training data: read whole, scrubbed, stored and given to the chat template."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from data_contracts.errors import DataError, RowRejected
from data_contracts.formats import Reading, Readings, parse_record, read_row
from data_contracts.formats.openai import as_openai
from data_contracts.policy import load_policy
from data_contracts.records import Record
from data_contracts.snapshots import write_records
from data_contracts.workspace import Workspace
from models.template import ChatTemplate
from tasks.preview import preview
from tasks.scrub.engine import Scrubber
from tasks.sources import inspect, rows
from tasks.split import SplitSettings, nothing_to_learn

DATA = Path(__file__).parent / "data"
FILES = sorted((DATA / "formats").iterdir())
CASES = DATA / "field_cases"
KEY = b"k" * 32
PATTERNS = Scrubber(load_policy().model_copy(update={"detector": False}), None)


def read(path: Path) -> tuple[list[Reading], Counter[str]]:
    found: list[Reading] = []
    refused: Counter[str] = Counter()
    for file in inspect(str(path), seed=0, key=KEY)[0]:
        for row in rows(file, seed=0):
            try:
                found.append(row.read(file.name))
            except RowRejected as rejected:
                refused[rejected.rule] += 1
    return found, refused


def readings(found: list[Reading]) -> Readings:
    return Readings.total(one.readings for one in found)


def turns(record: Record) -> list[str]:
    """The conversation in short: who speaks, what; `-` before a turn that is not learnt."""
    return [f"{'' if m.learnt else '-'}{m.role}: {m.text}" for m in record.messages]


FORMATS = {
    "alpaca.jsonl": {"Alpaca": 2, "instruction/response": 1},
    "anthropic.jsonl": {"Anthropic messages": 2},
    "axolotl.jsonl": {"ShareGPT": 1, "ChatML in conversations": 1, "preference pair": 2},
    "gemini.jsonl": {"Gemini": 1},
    "llamafactory_kto.jsonl": {"OpenAI chat, labelled": 2, "Alpaca, labelled": 1},
    "llamafactory_pairs.jsonl": {"preference pair (ShareGPT)": 1, "preference pair": 1},
    "openai_preference.jsonl": {"preference pair (OpenAI)": 1},
    "openai_tools.jsonl": {"OpenAI chat": 4},
    "other_columns.jsonl": {
        "query/response": 1,
        "question/response": 1,
        "pairs in conversation": 1,
        "OpenAI chat": 4,
    },
    "sharegpt_tools.jsonl": {"ShareGPT": 2},
    "trl.jsonl": {"prompt/completion": 2, "prompt/completion, labelled": 2},
    "trl_preference.jsonl": {"preference pair": 6},
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_format_is_recognised_by_the_shape_of_the_rows(file: Path) -> None:
    found, refused = read(file)
    assert readings(found).formats == FORMATS[file.name]
    assert refused == (
        {"messages.train_detail: a turn cannot be learnt in part": 1}
        if "axolotl" in str(file)
        else {}
    )


# -- nothing missing but what is named -------------------------------------------------------

# What says how a thing is called in one format, and is called otherwise in another.
STRUCTURE = ("role", "from", "type", "train", "train_detail", "weight", "loss", "label", "kto_tag")


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """(names of the fields it is in, text) of all that a row says; JSON text is looked into."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        yield from leaves(json.loads(value), path)
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from leaves(part, (*path, name))
    elif isinstance(value, list):
        for part in value:
            yield from leaves(part, path)
    elif value is not None:
        yield path, str(value)


@pytest.mark.parametrize(
    "file", [*FILES, *sorted(CASES.glob("*/*.jsonl"))], ids=lambda file: file.name
)
def test_nothing_is_missing_but_what_the_readings_name(file: Path) -> None:
    if file.name == "utf16.jsonl":
        pytest.skip("refused as a whole")
    for source in inspect(str(file), seed=0, key=KEY)[0]:
        for row in rows(source, seed=0):
            try:
                reading = row.read("s")
            except RowRejected:
                continue
            kept = " ".join(text for _, text in leaves(as_openai(reading.record)))
            unread = {name.rpartition(".")[2] for name in reading.readings.unread}
            for path, text in leaves(row._decoded()):
                if not (set(path) & {*STRUCTURE, *unread}):
                    # A pair of texts is cut where its sides begin to differ, a transcript in turns.
                    parts = text.replace("Human: ", "").replace("Assistant: ", "").split()
                    assert all(part in kept for part in parts), (path, text)


@pytest.mark.parametrize(
    "file", [*FILES, *sorted(CASES.glob("*/*.json*"))], ids=lambda file: file.name
)
def test_round_trip_through_scrub_snapshot_and_openai_rows(
    file: Path, workspace: Workspace
) -> None:
    if file.name == "utf16.jsonl":
        pytest.skip("refused as a whole")
    found, _ = read(file)
    records = [one.record for one in found]
    clean = [PATTERNS.record(record)[0] for record in records]
    assert clean == records  # nobody's data is in them
    snapshot = write_records(str(workspace.snapshots), "t", clean, parent=None, provenance={})
    stored = list(snapshot.records())
    assert stored == records
    for record, again in zip(records, stored, strict=True):
        assert [m.as_chat() for m in again.messages] == [m.as_chat() for m in record.messages]
        assert again.content_digest == record.content_digest
    # What `evergreen scrub` writes is read as what it was: as Parquet, and as OpenAI's rows.
    shards = [str(path) for path in Path(snapshot.path).glob("part-*.parquet")]
    as_parquet = [one.record for shard in shards for one in read(Path(shard))[0]]
    as_rows = [parse_record(as_openai(record), source="s", position=0) for record in records]
    for record, *others in zip(records, as_parquet, as_rows, strict=True):
        for other in others:
            assert other.model_copy(update={"source": record.source}) == record


# -- what each format says -------------------------------------------------------------------


def test_text_beside_a_call_parallel_calls_and_tools_are_kept() -> None:
    found, _ = read(DATA / "formats" / "openai_tools.jsonl")
    first, refusal, thought, legacy = (one.record for one in found)
    said = first.messages[2]
    assert said.content == "Let me look."
    assert [call.id for call in said.tool_calls] == ["call_a", "call_b"]
    assert said.tool_calls[0].arguments == '{"town": "Oslo", "days": null}'  # the model's own null
    assert said.as_chat()["tool_calls"][1]["function"]["arguments"] == '{"town":"Lima"}'
    assert [m.tool_call_id for m in first.messages[3:5]] == ["call_a", "call_b"]
    assert first.messages[1].name == "visitor"
    assert first.parallel_tool_calls is True
    assert json.loads(first.tools or "")[0]["function"]["name"] == "get_weather"
    assert refusal.messages[-1].as_chat()["content"] == "I cannot do that."
    assert thought.messages[-1].as_chat()["reasoning_content"] == "They ask twice."
    assert turns(thought)[:3] == ["developer: Be brief.", "user: Two\nparts", "-assistant: Hm."]
    call, result = legacy.messages[1:3]
    assert (call.tool_calls[0].name, result.role) == ("get_weather", "tool")
    assert result.tool_call_id == call.tool_calls[0].id
    assert json.loads(legacy.tools or "")[0]["type"] == "function"


def test_anthropic_parts_become_turns() -> None:
    found, _ = read(DATA / "formats" / "anthropic.jsonl")
    assert turns(found[0].record) == [
        "system: You book tables.",
        "user: A table for two, please.",
        'assistant: Let me see.\nfind_table({"seats": 2, "terrace": null})\nopening_hours({})',
        "tool: at eight",
        "tool: until ten",
        "user: Well?",
        "assistant: At eight.",
    ]
    assert found[0].record.messages[2].reasoning == "They need a time."
    offered = json.loads(found[0].record.tools or "")[0]["function"]
    assert offered["parameters"]["properties"] == {"seats": {"type": "integer"}}
    assert readings(found).unread == {
        "messages.content.signature": 1,
        "messages.content.is_error": 1,
    }


def test_sharegpt_calls_and_observations() -> None:
    found, _ = read(DATA / "formats" / "sharegpt_tools.jsonl")
    one, several = (found_one.record for found_one in found)
    assert turns(one)[2:4] == [
        'assistant: calculate_area({"shape": "rectangle", "dimensions": [5, 3]})',
        'tool: {"area": 15}',
    ]
    assert json.loads(one.tools or "")[0]["function"]["name"] == "calculate_area"
    assert several.tools is None
    calls = several.messages[1].tool_calls
    assert [m.tool_call_id for m in several.messages[2:4]] == [call.id for call in calls]
    assert all(len(str(call.id)) == 9 for call in calls)


@pytest.mark.parametrize("name", ["trl_preference", "llamafactory_pairs", "openai_preference"])
def test_pairs_keep_both_sides_and_learn_the_chosen_one(name: str) -> None:
    found, _ = read(DATA / "formats" / f"{name}.jsonl")
    assert readings(found).labels == {"rejected sides": len(found)}
    for one in found:
        *context, chosen = one.record.messages
        (rejected,) = one.record.rejected
        assert chosen.learnt
        assert not any(m.learnt for m in context if m.role == "assistant")
        assert rejected.role == "assistant"
        assert rejected.content not in one.record.text


def test_pairs_with_the_prompt_inside_the_sides() -> None:
    found, _ = read(DATA / "formats" / "trl_preference.jsonl")
    assert [turns(one.record) for one in found] == [
        ["user: The sky is", "assistant:  blue."],
        ["user: The grass is", "assistant:  green."],
        ["user: What colour is snow?", "assistant: White."],
        ["user: What colour is coal?", "assistant: Black."],
        ["user: What colour is gold?", "assistant: Yellow."],
        ["user: Hi.", "-assistant: Hello.", "user: Bye.", "assistant: Goodbye."],
    ]


def test_what_the_source_excludes_is_not_learnt_and_counted() -> None:
    axolotl, _ = read(DATA / "formats" / "axolotl.jsonl")
    assert turns(axolotl[0].record)[2:] == [
        "-assistant: Wrong.",
        "user: Really?",
        "assistant: Hi there!",
    ]
    assert readings(axolotl).unlearnt == {
        "train: false": 1,
        "train_detail: false": 1,
        "train: true on a turn of another role": 1,
    }
    trl, _ = read(DATA / "formats" / "trl.jsonl")
    assert readings(trl).unlearnt == {
        "before the answer that the row is about": 1,
        "label: false": 1,
    }
    assert [one.record.desirable for one in trl] == [None, None, False, True]
    kto, _ = read(DATA / "formats" / "llamafactory_kto.jsonl")
    assert [one.record.teaches for one in kto] == [True, False, False]
    assert (
        nothing_to_learn(kto[1].record, SplitSettings()) == "nothing to learn: labelled undesirable"
    )


@pytest.mark.parametrize(
    ("value", "learnt", "unknown"),
    [
        (0, False, {}),
        (0.0, False, {}),
        ("0", False, {}),
        (False, False, {}),
        (1, True, {}),
        ("true", True, {}),
        (None, True, {}),
        (0.5, True, {"messages.weight": 1}),
        ("half", True, {"messages.weight": 1}),
        (float("nan"), True, {"messages.weight": 1}),
        ([0], True, {"messages.weight": 1}),
    ],
)
def test_weights_of_turns(value: Any, learnt: bool, unknown: dict[str, int]) -> None:
    row = {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b", "weight": value},
        ]
    }
    reading = read_row(row, source="s", position=0)
    assert reading.record.messages[1].learnt is learnt
    assert reading.readings.unknown == unknown


@pytest.mark.parametrize(
    ("field", "value", "desirable", "labels", "unknown"),
    [
        ("label", True, True, {"label: true": 1}, {}),
        ("label", 0, False, {"label: false": 1}, {}),
        ("label", -1, False, {"label: false": 1}, {}),
        ("label", "undesirable", False, {"label: false": 1}, {}),
        ("kto_tag", "false", False, {"kto_tag: false": 1}, {}),
        ("thumbs_up", False, False, {"thumbs_up: false": 1}, {}),
        ("label", 7, None, {}, {"label": 1}),
        ("label", "sports", None, {}, {"label": 1}),
        ("rating", 1, None, {"rating: 1": 1}, {}),
        ("rating", "4.5", None, {"rating: 4.5": 1}, {}),
        ("score", "high", None, {}, {"score": 1}),
        ("feedback", "down", False, {"feedback: false": 1}, {}),
    ],
)
def test_what_people_said_of_an_answer(
    field: str, value: Any, desirable: bool | None, labels: dict[str, int], unknown: dict[str, int]
) -> None:
    reading = read_row({"prompt": "a", "response": "b", field: value}, source="s", position=0)
    assert reading.record.desirable is desirable
    assert reading.record.messages[1].learnt is (desirable is not False)
    assert (reading.readings.labels, reading.readings.unknown) == (labels, unknown)


# -- what cannot be represented, and what cannot be read -------------------------------------


@pytest.mark.parametrize(
    ("part", "rule"),
    [
        ({"type": "image_url", "image_url": {"url": "https://x"}}, "images"),
        ({"type": "image"}, "images"),
        ({"type": "input_audio", "input_audio": {}}, "audio"),
        ({"type": "video"}, "video"),
        ({"type": "document", "source": {}}, "files"),
        ({"inlineData": {"data": "AA=="}}, "files"),
        ({"type": "hologram"}, "an unknown kind"),
        ({"x": 1}, "an unknown kind"),
    ],
)
def test_parts_that_are_no_text_have_a_rule_of_their_own(part: Any, rule: str) -> None:
    text = {"type": "text", "text": "see"}
    with pytest.raises(RowRejected) as rejected:
        parse_record(
            {"messages": [{"role": "user", "content": [text, part]}]}, source="s", position=0
        )
    assert rejected.value.rule == f"messages.content: {rule} cannot be represented"


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"images": ["1.jpg"]}, "row: images cannot be represented"),
        ({"audios": ["1.mp3"]}, "row: audio cannot be represented"),
        ({"tools": "no JSON"}, "tools: not JSON"),
        ({"tools": [1]}, "tools: not objects"),
        ({"history": "before"}, "history: not a list"),
        ({"history": [["a", "b", "c"]]}, "history: not pairs of question and answer"),
    ],
)
def test_fields_that_change_what_is_learnt_are_never_passed_over(more: Any, rule: str) -> None:
    with pytest.raises(RowRejected) as rejected:
        parse_record({"prompt": "a", "response": "b", **more}, source="s", position=0)
    assert rejected.value.rule == rule


@pytest.mark.parametrize(
    "calls",
    [
        "no JSON",
        [1],
        [{"function": {"arguments": "{}"}}],
        [{"type": "custom", "custom": {"name": "f", "input": "text"}}],
        [{"function": "f"}],
    ],
)
def test_calls_that_cannot_be_read_are_refused(calls: Any) -> None:
    turn = {"role": "assistant", "content": "a", "tool_calls": calls}
    with pytest.raises(RowRejected, match=r"^messages\.tool_calls: "):
        parse_record({"messages": [turn]}, source="s", position=0)


def test_odd_optional_fields_are_unknown_and_the_row_stays() -> None:
    row = {
        "id": ["x"],
        "created_at": "soon",
        "labelled_spans": [{"turn": 9}],
        "parallel_tool_calls": "perhaps",
        "messages": [
            {"role": "user", "content": "a", "name": {"first": "b"}},
            {
                "role": "assistant",
                "content": "c",
                "reasoning": 7,
                "refusal": True,
                "tool_calls": None,
            },
        ],
    }
    reading = read_row(row, source="s", position=4)
    assert reading.record.id == "s:4"
    assert turns(reading.record) == ["user: a", "assistant: c"]
    assert set(reading.readings.unknown) == {
        "id",
        "created_at",
        "labelled_spans",
        "parallel_tool_calls",
        "messages.name",
        "messages.reasoning",
        "messages.refusal",
    }


def test_unread_fields_are_named_unless_the_name_may_be_somebodys() -> None:
    row = {
        "prompt": "a",
        "response": "b",
        "topic": "c",
        "empty": "",
        "none": None,
        "jo@example.org": 1,
        "AKIAQYLPMN5HJ3XCV7RT": 1,
        "call 555-123-4567": 1,
    }
    found = read_row(row, source="s", position=0).readings
    assert found.unread == {"topic": 1, "other": 3}
    many = Readings.total(
        read_row(
            {"prompt": "a", "response": "b", f"key_{n // 60}_{chr(97 + n % 26)}": 1},
            source="s",
            position=n,
        ).readings
        for n in range(2_000)
    )
    assert len(many.unread) <= 61
    assert sum(many.unread.values()) == 2_000


# -- Arrow -----------------------------------------------------------------------------------


def test_the_padding_of_arrow_is_not_learnt(tmp_path: Path) -> None:
    def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        function = {"name": name, "arguments": arguments}
        return {"id": "c", "type": "function", "function": function}

    weather = {"type": "object", "properties": {"town": {"type": "string"}}}
    clock = {"type": "object", "properties": {"zone": {"enum": ["utc"]}}}
    rows_of_file = [
        {
            "messages": [
                {"role": "user", "content": "Warm?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [call("weather", {"town": "Oslo"})],
                },
            ],
            "tools": [{"name": "weather", "parameters": weather}],
        },
        {
            "messages": [
                {"role": "user", "content": "Late?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [call("clock", {"zone": "utc"})],
                },
            ],
            "tools": [{"name": "clock", "parameters": clock}],
        },
    ]
    path = tmp_path / "calls.parquet"
    pq.write_table(pa.Table.from_pylist(rows_of_file), path)
    found, refused = read(path)
    assert not refused
    assert [one.record.messages[1].tool_calls[0].arguments for one in found] == [
        '{"town": "Oslo"}',
        '{"zone": "utc"}',
    ]
    offered = [json.loads(one.record.tools or "")[0]["function"]["parameters"] for one in found]
    assert offered == [weather, clock]


# -- the field cases -------------------------------------------------------------------------


def case(name: str) -> list[Reading]:
    found, refused = read(CASES / name)
    assert not refused
    return found


def test_01_tool_calls() -> None:
    found = {one.record.id: one.record for one in case("01-tool-calls/tools.jsonl")}
    assert len(found) == 16
    both = found["both0"].messages[1]
    assert (both.content, both.tool_calls[0].name) == (
        "Let me look that up first.",
        "search_manual",
    )
    assert found["null6"].messages[1].tool_calls[0].arguments == '{"topic": "t6"}'
    assert found["legacy"].messages[1].tool_calls[0].name == "search_manual"
    assert found["emptytool"].messages[2].content == ""
    assert found["nokey"].messages[1].tool_calls[0].arguments == '{"altitude": 100}'
    assert found["emptylist"].messages[1].tool_calls == ()


def test_02_weight() -> None:
    found = case("02-weight/weights.jsonl")
    assert readings(found).unlearnt == {"weight: 0": 48}
    learnt = [
        m.content
        for one in found
        for m in one.record.messages
        if m.learnt and m.role == "assistant"
    ]
    assert len(learnt) == 48
    assert not any("ZEBRAFISH" in text for text in learnt)


@pytest.mark.parametrize("name", ["bom.jsonl", "crlf.jsonl", "chats.json.gz"])
def test_03_byte_order_mark_line_ends_and_gzip(name: str) -> None:
    assert len(case(f"03-bom-crlf/{name}")) == 40


def test_03_utf_16_is_named() -> None:
    with pytest.raises(DataError, match="UTF-16"):
        read(CASES / "03-bom-crlf" / "utf16.jsonl")


@pytest.mark.parametrize("name", ["array.json", "array1line.json", "wrapped.json"])
def test_04_json_array(name: str) -> None:
    assert len(case(f"04-json-array/{name}")) == 40


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("sharegpt", "ShareGPT"),
        ("chatml_list", "OpenAI chat"),
        ("prompt_completion", "prompt/completion"),
        ("question_answer", "question/answer"),
        ("trl_pc", "prompt/completion"),
    ],
)
def test_05_sharegpt_and_its_kin(name: str, form: str) -> None:
    found = case(f"05-sharegpt/{name}.jsonl")
    assert readings(found).formats == {form: 40}
    assert all(one.record.messages[-1].role == "assistant" for one in found)


def test_07_negative_labels() -> None:
    kto = case("07-negative-labels/kto.jsonl")
    assert readings(kto).labels == {"label: true": 20, "label: false": 20}
    learnt = [
        m.content for one in kto for m in one.record.messages if m.learnt and m.role == "assistant"
    ]
    assert len(learnt) == 20
    assert not any("Nonsense" in text for text in learnt)
    for name in ("dpo", "rated"):
        found = case(f"07-negative-labels/{name}.jsonl")
        assert readings(found).labels["rejected sides"] == 40
        assert all(one.record.rejected[0].content == "no" for one in found)
    assert readings(found).labels["rating: 1"] == 20
    settings = SplitSettings(min_rating=3)
    aside = Counter(nothing_to_learn(one.record, settings) for one in found)
    assert aside == {None: 20, "nothing to learn: rated below 3": 20}


def test_08_alpaca_history() -> None:
    found = case("08-alpaca-history/alpaca.jsonl")
    assert readings(found).unread == {}
    for one in found:
        assert [m.role for m in one.record.messages] == ["system", *["user", "assistant"] * 2]


def test_the_rows_that_the_documentation_shows_are_read() -> None:
    text = (DATA.parents[1] / "docs" / "data.md").read_text("utf-8")
    shown = [line for line in text.splitlines() if line.startswith(("{", "["))]
    found = [read_row(json.loads(line), source="s", position=0) for line in shown]
    assert len(found) > 15
    assert all(one.record.messages[-1].role == "assistant" for one in found)
    assert Readings.total(one.readings for one in found).unread == {"messages.content.signature": 1}


def test_what_pandas_writes_for_missing_says_nothing() -> None:
    nan = float("nan")
    row = {"instruction": "a", "input": nan, "output": "b", "system": nan, "history": nan}
    reading = read_row({**row, "tools": nan, "label": nan}, source="s", position=0)
    assert turns(reading.record) == ["user: a", "assistant: b"]
    assert (reading.readings.unread, reading.readings.unknown) == ({}, {})
    reading = read_row({**row, "input": 7}, source="s", position=0)
    assert reading.readings.unknown == {"input": 1}


def test_parts_of_a_system_prompt_are_read_as_those_of_a_turn() -> None:
    parts = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    row = {"system": parts, "messages": [{"role": "user", "content": "a"}]}
    reading = read_row(row, source="s", position=0)
    assert turns(reading.record) == ["system: Be brief.", "user: a"]
    assert reading.readings.unread == {"messages.content.cache_control": 1}


# -- as it will be learnt --------------------------------------------------------------------


@pytest.mark.parametrize(
    "file",
    [
        *FILES,
        *(CASES / name for name in ("02-weight/weights.jsonl", "07-negative-labels/kto.jsonl")),
    ],
    ids=lambda file: file.name,
)
def test_learnt_tokens_are_the_answers_to_be_learnt_and_nothing_else(
    file: Path, tiny_model: Path
) -> None:
    template = ChatTemplate(AutoTokenizer.from_pretrained(tiny_model))
    shown = 0
    for one in read(file)[0]:
        record = PATTERNS.record(one.record)[0]
        if not record.teaches:
            continue
        try:
            found = preview(template, record, 4096)
        except RowRejected as rejected:
            # The tiny template writes content alone.
            assert record.tools or "call" in record.model_dump_json(), rejected
            continue
        shown += 1
        parts = [part for lesson in found.lessons for part in lesson.segments]
        learnt = "\n".join(part.text for part in parts if part.learnt)
        said = [m for m in record.messages if m.role == "assistant"]
        for message in said:
            text = (message.content or message.refusal or "").strip()
            if message.learnt and text:
                assert text in learnt
        expected = "".join((m.content or m.refusal or "") for m in said if m.learnt)
        assert learnt.replace("<|end|>", "").replace("\n", "") == expected.replace("\n", "")
    assert shown or file.name in ("gemini.jsonl", "sharegpt_tools.jsonl", "openai_preference.jsonl")
