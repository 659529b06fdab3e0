"""Inference logs of every format: each has a small file in `tests/data/logs/`."""

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import RowRejected
from data_contracts.formats import Reading
from data_contracts.inference_logs import OTHER_CHOICES
from data_contracts.log_formats.answers import ERROR
from data_contracts.log_formats.opentelemetry import NO_CALL, NOT_RECORDED
from data_contracts.log_formats.tracers import NO_CALL as NO_GENERATION
from data_contracts.log_formats.tracers import OTHER_CALLS
from data_contracts.records import Record, Served
from tasks.row_boundary import row_boundary
from tasks.sources import Row, contents

DATA = Path(__file__).parent / "data"


@dataclass
class Read:
    """What became of the rows of a file."""

    readings: list[Reading] = field(default_factory=list)
    rules: Counter[str] = field(default_factory=Counter)

    @property
    def records(self) -> list[Record]:
        return [reading.record for reading in self.readings]

    @property
    def formats(self) -> set[str]:
        return {name for reading in self.readings for name in reading.readings.formats}


def read(file: Path) -> Read:
    found = Read()
    for position, content in enumerate(contents(str(file))):
        try:
            with row_boundary("row"):
                found.readings.append(Row(position, content).read(file.name))
        except RowRejected as rejected:
            found.rules[rejected.rule] += 1
    return found


def said(record: Record) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in record.messages]


def served(record: Record) -> Served:
    assert record.served is not None
    return record.served


def test_openai_chat() -> None:
    found = read(DATA / "logs" / "openai_chat.jsonl")
    assert found.formats == {"request and response"}
    first, second = found.records
    assert first.id == "chatcmpl-9x1"
    assert said(first) == [
        ("system", "Be brief."),
        ("user", "Do I need an umbrella in Bergen?"),
        ("assistant", 'get_weather({"town": "Bergen"})'),
        ("tool", '{"sky": "rain"}'),
        ("assistant", "Yes, it rains all day."),
    ]
    assert json.loads(first.tools or "")[0]["function"]["name"] == "get_weather"
    assert first.parallel_tool_calls is False
    assert served(first) == Served(
        workload="helpdesk",
        model_version="gpt-4.1-mini-2026-04-14",
        prompt_tokens=81,
        completion_tokens=9,
        latency_ms=812.5,
        feedback=1.0,
        finish_reason="stop",
    )
    assert (second.messages[-1].tool_calls[0].id, served(second).finish_reason) == (
        "call_b1",
        "tool_calls",
    )
    assert "team-7" not in first.model_dump_json()


def test_openai_streams_are_put_together() -> None:
    found = read(DATA / "logs" / "openai_stream.jsonl")
    listed, text, broken_off, two = found.records
    assert said(listed) == said(text)
    answer = listed.messages[-1]
    assert answer.content == "Let me look. "
    assert [(call.id, json.loads(call.arguments)) for call in answer.tool_calls] == [
        ("call_c1", {"town": "Bergen"}),
        ("call_c2", {"town": "Oslo"}),
    ]
    assert served(listed).completion_tokens == 31
    assert served(broken_off).finish_reason == "interrupted"
    assert not broken_off.messages[-1].learnt
    assert two.messages[-1].content == "Oslo."
    assert found.readings[3].readings.labels == {OTHER_CHOICES: 1}
    assert found.rules == {ERROR: 1}


def test_openai_text_completions() -> None:
    found = read(DATA / "logs" / "openai_completions.jsonl")
    whole, streamed = found.records
    assert said(whole) == [("user", "Name a blue flower."), ("assistant", " Cornflower.")]
    assert said(streamed) == [("user", "Name a red flower."), ("assistant", " Poppy.")]
    assert served(streamed).finish_reason == "length"
    assert not streamed.messages[-1].learnt
    assert found.readings[1].readings.unlearnt == {"finish_reason: length": 1}


def test_errors_are_no_answers_and_have_a_name_of_their_own() -> None:
    found = read(DATA / "logs" / "openai_errors.jsonl")
    assert not found.records
    assert found.rules == {ERROR: 4, "response: withheld by a content filter": 1}


def test_openai_responses() -> None:
    found = read(DATA / "logs" / "openai_responses.jsonl")
    reasoned, tools, cut_off, refused, streamed = found.records
    assert said(reasoned) == [
        ("system", "Be brief."),
        ("user", "Name a blue flower."),
        ("assistant", "Cornflower."),
    ]
    assert reasoned.messages[-1].reasoning == "Flowers that are blue."
    assert (served(reasoned).prompt_tokens, served(reasoned).completion_tokens) == (21, 40)
    assert said(tools) == [
        ("developer", "Use the tools."),
        ("user", "Umbrella in Bergen?"),
        ("assistant", 'get_weather({"town":"Bergen"})'),
        ("tool", '{"sky":"rain"}'),
        ("assistant", 'Yes, take one.\nget_weather({"town":"Oslo"})'),
    ]
    assert tools.messages[3].tool_call_id == "call_d1"
    assert json.loads(tools.tools or "")[0]["function"]["name"] == "get_weather"
    assert found.readings[1].readings.unread == {"response.web_search_call": 1}
    assert (served(cut_off).finish_reason, cut_off.messages[-1].learnt) == ("length", False)
    assert refused.messages[-1].refusal == "I can't help with that."
    assert said(streamed)[-1] == ("assistant", "Poppy.")
    assert found.rules == {ERROR: 1}


def test_anthropic_messages() -> None:
    found = read(DATA / "logs" / "anthropic.jsonl")
    tools, streamed, cut_off = found.records
    assert said(tools) == [
        ("system", "Be brief."),
        ("user", "Umbrella in Bergen?"),
        ("assistant", 'Let me look.\nget_weather({"town": "Bergen"})'),
        ("tool", "rain"),
        ("user", "And Oslo?"),
        ("assistant", 'Bergen: yes.\nget_weather({"town": "Oslo"})'),
    ]
    assert [m.reasoning for m in tools.messages if m.reasoning] == ["I should look.", "Now Oslo."]
    assert served(tools).finish_reason == "tool_calls"
    assert json.loads(tools.tools or "")[0]["function"]["parameters"]["type"] == "object"
    assert said(streamed)[-1] == ("assistant", 'Cornflower.\nget_weather({"town": "Oslo"})')
    assert (served(streamed).prompt_tokens, served(streamed).completion_tokens) == (9, 15)
    assert (served(cut_off).finish_reason, cut_off.messages[-1].learnt) == ("length", False)
    assert found.rules == {ERROR: 1}


def test_litellm() -> None:
    found = read(DATA / "logs" / "litellm.jsonl")
    assert found.formats == {"LiteLLM payload"}
    payload, spend, text = found.records
    assert said(payload)[1:] == [("user", "Name a blue flower."), ("assistant", "Cornflower.")]
    assert json.loads(payload.tools or "")[0]["function"]["name"] == "get_weather"
    assert served(payload) == Served(
        workload="helpdesk-mini",
        model_version="gpt-4.1-mini-2026-04-14",
        prompt_tokens=25,
        completion_tokens=9,
        latency_ms=1500.0,
        finish_reason="stop",
    )
    assert said(spend) == [("user", "Name a flower."), ("assistant", "Cornflower.")]
    assert served(spend).latency_ms == 750.0
    assert said(text)[-1] == ("assistant", "Cornflower, in plain text.")
    assert found.rules == {ERROR: 1, "messages: LiteLLM was told not to keep them": 1}


def test_langfuse() -> None:
    found = read(DATA / "logs" / "langfuse.jsonl")
    assert found.formats == {"Langfuse export"}
    api, blob, trace, json_answer = found.records
    assert said(api)[1:] == [("user", "Name a blue flower."), ("assistant", "Cornflower.")]
    assert served(api) == Served(
        workload="answer",
        model_version="gpt-4.1-mini",
        prompt_tokens=25,
        completion_tokens=9,
        latency_ms=2500.0,
    )
    assert said(blob) == [("user", "Name a red flower."), ("assistant", "Poppy.")]
    assert (served(blob).workload, blob.tools is not None) == ("helpdesk", True)
    assert [role for role, _ in said(trace)] == ["user", "assistant", "tool", "assistant"]
    assert (served(trace).feedback, served(trace).correction) == (1.0, "Yes, a big one.")
    assert found.readings[2].readings.labels == {OTHER_CALLS: 1}
    assert said(json_answer)[-1] == ("assistant", '{"city": "Bergen"}')
    assert found.rules == {NO_GENERATION: 1, ERROR: 1}
    assert "u-77" not in "".join(record.model_dump_json() for record in found.records)


def test_mlflow_traces() -> None:
    found = read(DATA / "logs" / "mlflow.jsonl")
    assert found.formats == {"MLflow trace"}
    trace, row = found.records
    for record in (trace, row):
        assert said(record) == [("user", "Name a blue flower."), ("assistant", "Cornflower.")]
        assert served(record) == Served(
            workload="helpdesk",
            model_version="gpt-x",
            prompt_tokens=3,
            completion_tokens=4,
            latency_ms=100.0,
            feedback=1.0,
            correction="The cornflower.",
            finish_reason="stop",
        )
    assert found.rules == {ERROR: 1, NO_GENERATION: 1}


def _is_there(client: Any, trace_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_trace(trace_id) is not None
    except MlflowException:
        return False


def test_mlflow_traces_as_this_mlflow_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where it makes a folder for what it is not asked to store
    import mlflow
    from mlflow.entities import SpanType

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    try:
        # By name: what an earlier test set as this process's experiment is not in this database.
        helpdesk = client.create_experiment("helpdesk")
        root = client.start_trace("helpdesk", inputs={"question": "hi"}, experiment_id=helpdesk)
        span = client.start_span(
            "chat",
            trace_id=root.trace_id,
            parent_id=root.span_id,
            span_type=SpanType.CHAT_MODEL,
            inputs={"messages": [{"role": "user", "content": "hi"}]},
        )
        answer = {"choices": [{"message": {"role": "assistant", "content": "hello"}}]}
        client.end_span(root.trace_id, span.span_id, outputs=answer)
        client.end_trace(root.trace_id, outputs="hello")
        mlflow.flush_trace_async_logging()
        until = time.monotonic() + 60
        while not _is_there(client, root.trace_id):  # it is written by a thread
            assert time.monotonic() < until
            time.sleep(0.1)
        mlflow.log_feedback(trace_id=root.trace_id, name="thumbs", value=False)
        trace = client.get_trace(root.trace_id)
    finally:
        mlflow.set_tracking_uri(before)
    (tmp_path / "trace.json").write_text(json.dumps(trace.to_dict(), indent=2))
    (record,) = read(tmp_path / "trace.json").records
    assert said(record) == [("user", "hi"), ("assistant", "hello")]
    assert (record.id, served(record).feedback) == (root.trace_id, 0.0)


def test_opentelemetry_spans() -> None:
    found = read(DATA / "logs" / "opentelemetry.jsonl")
    assert found.formats == {"OpenTelemetry span"}
    parts, details, events, prompt, indexed, logged, console = found.records
    assert said(parts) == [
        ("system", "Be brief."),
        ("user", "Umbrella in Bergen?"),
        ("assistant", 'get_weather({"town": "Bergen"})'),
        ("tool", '{"sky": "rain"}'),
        ("assistant", "Yes, it rains."),
    ]
    assert parts.messages[2].reasoning == "I should look."
    assert parts.messages[3].tool_call_id == "call_e1"
    assert json.loads(parts.tools or "")[0]["function"]["name"] == "get_weather"
    assert served(parts) == Served(
        workload="helpdesk",
        model_version="gpt-4.1-mini-2026-04-14",
        prompt_tokens=70,
        completion_tokens=6,
        latency_ms=500.0,
        finish_reason="stop",
    )
    assert said(details) == [("user", "Name a blue flower."), ("assistant", "Cornflower.")]
    assert not details.messages[-1].learnt
    assert [text for _, text in said(events)] == ["Be brief.", "Name a red flower.", "Poppy."]
    assert said(prompt) == [("user", "Name a white flower."), ("assistant", "Daisy.")]
    assert said(indexed)[-1] == ("assistant", 'get_weather({"town": "Oslo"})')
    assert (served(indexed).prompt_tokens, indexed.tools is not None) == (40, True)
    assert said(logged) == [("user", "Name a yellow flower."), ("assistant", "Marigold.")]
    assert said(console) == [("user", "Name a green plant."), ("assistant", "Moss.")]
    assert found.readings[-1].readings.labels == {OTHER_CHOICES: 1}
    assert found.rules == {NO_CALL: 3, NOT_RECORDED: 1, ERROR: 1}


def test_an_export_that_cannot_be_taken_apart_is_one_broken_row(tmp_path: Path) -> None:
    deep = '{"resourceSpans": ' + "[" * 2000 + "]" * 2000 + "}\n"
    (tmp_path / "deep.jsonl").write_text(deep + '{"resourceSpans": 7}\n{"resourceSpans": [\n')
    found = read(tmp_path / "deep.jsonl")
    assert not found.records
    assert found.rules.total() == 3


# What is right for each of the odd files: the last words, or the rule.
ODD: dict[str, Any] = {
    "error": ERROR,
    "filtered": "response: withheld by a content filter",
    "system_only_blocks": "messages.content: images cannot be represented",
    "refusal": "I can't help with that.",
    "length": "Think of the bolts a",
    "n2": "nine times in ten a small aquarium fails for one of these.",
}


def odd_files() -> list[str]:
    return sorted(file.stem.removeprefix("odd-") for file in (DATA / "odd-logs").glob("odd-*"))


@pytest.mark.parametrize("name", odd_files())
def test_no_record_is_lost_for_a_side_field(name: str) -> None:
    found = read(DATA / "odd-logs" / f"odd-{name}.jsonl")
    right = ODD.get(name, "")
    if not found.records:
        assert found.rules == {right: 1}
        return
    (record,) = found.records
    assert record.messages[-1].text.endswith(right)
    assert record.messages[-1].text
    assert str(record.created_at).startswith("2026-09-01T08:")
    unknown = {"nan_latency": "latency_ms", "workload_slash": "workload_id"}
    unknown["feedback_list"] = "feedback"
    told = found.readings[0].readings.unknown
    assert told == ({unknown[name]: 1} if name in unknown else {})
    assert record.messages[-1].learnt == (name != "length")


def test_streams_are_whole() -> None:
    for name in ("stream_list", "stream_sse_text", "stream_delta"):
        (record,) = read(DATA / "odd-logs" / f"odd-{name}.jsonl").records
        assert len(record.messages[-1].content.split()) > 15
        assert served(record).finish_reason == "stop"


def test_the_odd_files_together() -> None:
    found = read(DATA / "odd-logs" / "all.jsonl")
    assert (len(found.records), found.rules.total()) == (66, 3)
